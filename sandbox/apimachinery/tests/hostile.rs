//! Every decoder against bytes that are nearly right: seeds, changed at random (the same each time), must give a result or an error and keep
//! what the decoder promises. `HOSTILE_ROUNDS` sets how many are tried of each; a longer run finds more.

use base64::Engine;
use drydock_apimachinery::crd::{
    CompiledRule, JsonPath, Served, Structural, default_definition, validate_definition,
};
use drydock_apimachinery::decode::{Format, complete, conform, decode, decode_untyped};
use drydock_apimachinery::field::ErrorList;
use drydock_apimachinery::managed_fields::{Place, Set, Tracker};
use drydock_apimachinery::patch::{self, PatchKind};
use drydock_apimachinery::quantity::Quantity;
use drydock_apimachinery::schema::{Struct, find};
use drydock_apimachinery::selectors::{FieldSelector, LabelSelector};
use serde_json::{Value, json};

/// Numbers that look random and are the same in every run (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % most.max(1) as u64) as usize
    }
}

/// Pieces that are likely to matter somewhere.
const PIECES: [&str; 44] = [
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "null",
    "true",
    "-1",
    "1e999",
    "99999999999999999999",
    "0.5",
    "\\u0000",
    "\\",
    "\u{1f980}",
    "$patch",
    "$retainKeys",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "replace",
    "delete",
    "name",
    "metadata",
    "spec",
    "k:{\"name\":\"a\"}",
    "f:spec",
    "v:1",
    ".",
    "&a",
    "*a",
    "- ",
    "\n",
    "  ",
    "%",
    "!!binary ",
    "in (",
    ")",
    "==",
    "!=",
    "'",
    "self.",
    "x--",
    "\x08\u{7f}",
];

fn changed(seed: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut out = seed.to_vec();
    for _ in 0..=dice.below(6) {
        let at = dice.below(out.len() + 1);
        match dice.below(6) {
            0 if at < out.len() => out[at] = dice.below(256) as u8,
            1 if at < out.len() => {
                out.remove(at);
            }
            2 => out.truncate(at),
            3 => {
                let from = dice.below(out.len() + 1);
                let piece = out[from.min(at)..from.max(at)].to_vec();
                if piece.len() < 4096 {
                    out.splice(at..at, piece);
                }
            }
            _ => {
                let piece = PIECES[dice.below(PIECES.len())].bytes();
                out.splice(at..at, piece);
            }
        }
    }
    out
}

/// Tries a decoder on the seeds and on what becomes of them.
fn attack(seeds: &[Vec<u8>], mut decoder: impl FnMut(&[u8])) {
    let rounds = std::env::var("HOSTILE_ROUNDS").ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(2000);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    seeds.iter().for_each(|seed| decoder(seed));
    for _ in 0..rounds {
        let seed = &seeds[dice.below(seeds.len())];
        decoder(&changed(seed, &mut dice));
    }
}

fn kind(group: &str, name: &str) -> Struct {
    find(group, "v1", name).unwrap()
}

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "default", "labels": {"app": "web"},
        "finalizers": ["a/b"]},
        "spec": {"replicas": 1, "selector": {"matchLabels": {"app": "web"}}, "strategy": {"rollingUpdate": {"maxSurge": "25%"}},
            "template": {"metadata": {"labels": {"app": "web"}, "creationTimestamp": null}, "spec": {"containers": [
                {"name": "a", "image": "x", "ports": [{"containerPort": 80}], "resources": {"limits": {"memory": "1024Mi"}},
                    "env": [{"name": "A", "value": "B"}]}, {"name": "b", "image": "y"}],
                "volumes": [{"name": "v", "emptyDir": {}}]}}}})
}

fn bytes(values: &[Value]) -> Vec<Vec<u8>> {
    values.iter().map(|value| value.to_string().into_bytes()).collect()
}

/// What is decoded stays what it is when it is decoded again, before and after it is completed.
fn stable(object: Value, schema: Struct) {
    let again = conform(&object, schema).unwrap();
    assert_eq!(again.object, object);
    let mut completed = object.clone();
    complete(&mut completed, schema);
    let mut twice = completed.clone();
    complete(&mut twice, schema);
    assert_eq!(twice, completed);
    assert_eq!(conform(&completed, schema).unwrap().object, conform(&object, schema).unwrap().object);
}

#[test]
fn json_bodies() {
    let schema = kind("apps", "Deployment");
    attack(&bytes(&[deployment()]), |body| {
        let _either = decode_untyped(body, Format::Json);
        if let Ok(decoded) = decode(body, Format::Json, schema) {
            stable(decoded.object, schema);
        }
    });
}

#[test]
fn yaml_bodies() {
    let schema = kind("apps", "Deployment");
    let text = "apiVersion: apps/v1\nkind: Deployment\nmetadata: &m\n  name: web\n  labels: {app: web}\nspec:\n  replicas: 0x10\n  paused: yes\n  \
                template:\n    metadata: *m\n    spec:\n      containers:\n      - name: a\n        image: |\n          x\n        args: ['a', \"b\"]\n";
    attack(&[text.as_bytes().to_vec()], |body| {
        if let Ok(decoded) = decode(body, Format::Yaml, schema) {
            stable(decoded.object, schema);
        }
    });
}

#[test]
fn protobuf_bodies() {
    let rows: Vec<Value> =
        include_str!("kubectl.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for row in rows {
        let of = |at: usize| row["gvk"][at].as_str().unwrap();
        let schema = find(of(0), of(1), of(2)).unwrap();
        let body =
            base64::engine::general_purpose::STANDARD.decode(row["protobuf"].as_str().unwrap()).unwrap();
        attack(&[body], |body| {
            if let Ok(decoded) = decode(body, Format::Protobuf, schema) {
                let mut object = decoded.object;
                complete(&mut object, schema);
                conform(&object, schema).unwrap();
            }
        });
    }
}

#[test]
fn patches() {
    let schema = kind("apps", "Deployment");
    let strategic = [
        json!({"spec": {"$retainKeys": ["replicas"], "replicas": 3}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"], "labels": {"a": null, "$patch": "replace"}}}),
        json!({"spec": {"template": {"spec": {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}],
            "containers": [{"name": "b", "image": "z"}, {"name": "a", "$patch": "delete"}]}}}}),
    ];
    let operations = [
        json!([{"op": "add", "path": "/metadata/labels/x", "value": "y"}, {"op": "copy", "from": "/spec", "path": "/metadata/labels/z"},
        {"op": "move", "from": "/spec/replicas", "path": "/spec/x"}, {"op": "remove", "path": "/metadata/finalizers/0"}]),
    ];
    for (kind, seeds) in [
        (PatchKind::Strategic, bytes(&strategic)),
        (PatchKind::Merge, bytes(&strategic)),
        (PatchKind::Json, bytes(&operations)),
    ] {
        attack(&seeds, |body| {
            let Ok(mut patched) = patch::apply(kind, deployment(), body, Some(schema)) else { return };
            if let Ok(decoded) = patched.conform(schema) {
                stable(decoded.object, schema);
            }
        });
    }
}

#[test]
fn configurations_to_apply() {
    let schema = kind("apps", "Deployment");
    let tracker = Tracker {
        api_version: "apps/v1",
        kind: "Deployment",
        subresource: "",
        schema: Place::of(schema),
        reset: &[&["status"]],
        now: "2026-11-20T13:03:48Z",
    };
    let mut live = decode(deployment().to_string().as_bytes(), Format::Json, schema).unwrap().object;
    complete(&mut live, schema);
    let mut empty = json!({});
    complete(&mut empty, schema);
    tracker.update(&empty, &mut live, "one");
    live["metadata"]["uid"] = "u".into();
    attack(&bytes(&[deployment()]), |body| {
        let Ok(config) = decode_untyped(body, Format::Json) else { return };
        let Ok(applied) = tracker.apply(&live, &config.object, "two", true) else { return };
        // To apply the same again is nothing new.
        let again = tracker.apply(&applied, &config.object, "two", false).unwrap();
        assert_eq!(again["spec"], applied["spec"]);
        assert_eq!(again["metadata"]["managedFields"], applied["metadata"]["managedFields"]);
    });
}

#[test]
fn sets_of_fields() {
    let seed = json!({"f:spec": {".": {}, "f:ports": {"k:{\"port\":80}": {".": {}, "f:port": {}}, "v:\"x\"": {}, "i:3": {}}}});
    attack(&bytes(&[seed]), |body| {
        let Ok(value) = serde_json::from_slice::<Value>(body) else { return };
        let Ok(set) = Set::from_json(&value) else { return };
        assert_eq!(Set::from_json(&set.clone().into_json()).unwrap(), set);
        assert!(set.clone().difference(&set).is_empty());
        assert_eq!(set.intersection(&set), set);
    });
}

#[test]
fn texts() {
    let seeds = [
        "a=b,c!=d,e in (f,g),!h,i",
        "x notin (y)",
        "metadata.name=a,spec.nodeName!=b\\,c",
        "1.5Gi",
        "-0.001e-3",
        ".a['b'].c[?(@.d==\"e\")][0]",
    ];
    let seeds: Vec<_> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    attack(&seeds, |text| {
        let Ok(text) = std::str::from_utf8(text) else { return };
        let _either = LabelSelector::parse(text);
        let _either = FieldSelector::parse(text);
        if let Ok(path) = JsonPath::parse(text) {
            path.find(&deployment());
        }
        if let Ok(quantity) = text.parse::<Quantity>() {
            let canonical = quantity.to_string();
            let again: Quantity = canonical.parse().unwrap();
            assert_eq!(again.to_string(), canonical, "{text}");
        }
    });
}

fn definition() -> Value {
    let mut definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "widgets", "kind": "Widget"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "additionalPrinterColumns": [{"name": "Size", "type": "string", "jsonPath": ".spec.size"}],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "default": {},
                "x-kubernetes-validations": [{"rule": "self.list.all(x, x != self.size)", "messageExpression": "'no ' + self.size"}],
                "properties": {"size": {"type": "string", "enum": ["S", "M"], "pattern": "^[SM]$", "default": "S"},
                    "list": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}, "default": []},
                    "open": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
                    "either": {"x-kubernetes-int-or-string": true}}}}}}}]}});
    default_definition(&mut definition);
    definition
}

#[test]
fn definitions_and_their_objects() {
    let schema = kind("apiextensions.k8s.io", "CustomResourceDefinition");
    let object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"},
        "spec": {"size": "M", "list": ["a", "b"], "open": {"x": {"y": 1}}, "either": "50%"}});
    let check = |served: &Served, object: &Value| {
        let mut object = object.clone();
        served.prune(&mut object);
        served.fill_defaults(&mut object);
        let mut again = object.clone();
        assert!(served.prune(&mut again).is_empty());
        served.fill_defaults(&mut again);
        assert_eq!(again, object);
        served.validate(&object, None, ErrorList::default());
        served.row(&object, jiff::Timestamp::UNIX_EPOCH);
    };
    attack(&bytes(&[definition()]), |body| {
        let Ok(decoded) = decode(body, Format::Json, schema) else { return };
        let mut definition = decoded.object;
        default_definition(&mut definition);
        if validate_definition(&definition, None).is_empty() {
            Served::of(&definition).iter().for_each(|served| check(served, &object));
        }
    });
    let served = Served::of(&definition()).remove(0);
    attack(&bytes(std::slice::from_ref(&object)), |body| {
        if let Ok(decoded) = decode_untyped(body, Format::Json) {
            check(&served, &decoded.object);
        }
    });
    let _structural = Structural::read(&definition());
}

#[test]
fn rules() {
    let seeds = [
        "self.list.all(x, x.startsWith('a') && self.size in ['S', 'M'])",
        "has(self.a) ? quantity(self.a).compareTo(quantity('1')) > 0 : true",
        "oldSelf.map(x, {'a': x}).size() == 0 || !self.matches('^[a-z]+$')",
    ];
    let seeds: Vec<_> = seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect();
    attack(&seeds, |text| {
        if let Ok(text) = std::str::from_utf8(text) {
            let _either = CompiledRule::compile(text);
        }
    });
}
