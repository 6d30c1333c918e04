//! Rules over objects, and what is said of those that cannot be asked.

use super::*;
use serde_json::json;

fn told(schema: Value, new: Value, old: Option<Value>) -> Vec<String> {
    check(&new, old.as_ref(), &Structural::read(&schema)).iter().map(ToString::to_string).collect()
}

#[test]
fn what_goes_wrong_in_a_run_is_said_as_cel_go_says_it() {
    let properties = json!({"l": {"type": "array", "items": {"type": "integer"}}, "s": {"type": "string"}, "n": {"type": "integer"},
        "m": {"type": "object", "additionalProperties": {"type": "string"}}, "port": {"x-kubernetes-int-or-string": true}});
    let object = json!({"spec": {"l": [1], "s": "zz", "n": 0, "m": {}, "port": "http"}});
    for (rule, error) in [
        ("self.l[3] > 1", "index out of bounds: 3 evaluating rule: self.l[3] > 1"),
        ("int(self.s) > 1", "type conversion error from 'string' to 'int' evaluating rule: int(self.s) > 1"),
        (
            "duration(self.s) > duration('1s')",
            "type conversion error from 'string' to 'google.protobuf.Duration' evaluating rule: duration(self.s) > duration('1s')",
        ),
        (
            "timestamp(self.s) > timestamp('2020-01-01T00:00:00Z')",
            "type conversion error from 'string' to 'google.protobuf.Timestamp' evaluating rule: timestamp(self.s) > timestamp('2020-01-01T00:00:00Z')",
        ),
        ("4 / self.n == 1", "division by zero evaluating rule: 4 / self.n == 1"),
        ("1 % self.n == 1", "modulus by zero evaluating rule: 1 % self.n == 1"),
        (
            "9223372036854775807 + self.l[0] > 1",
            "integer overflow evaluating rule: 9223372036854775807 + self.l[0] > 1",
        ),
        ("'a'.matches('x[' + self.s)", "error parsing regexp: missing closing ]: `[zz` evaluating rule:"),
        ("self.m['a'] == 'b'", "no such key: a evaluating rule: self.m['a'] == 'b'"),
        (
            "self.port > 1",
            "'no such overload': call arguments did not match a supported operator, function or macro signature for rule: self.port > 1",
        ),
    ] {
        let told = told(spec(properties.clone(), json!([{"rule": rule}])), object.clone(), None);
        assert!(told[0].contains(error), "{rule}: {told:?}");
    }
    let named = spec(properties, json!([{"rule": "self.l[3] > 1", "message": "at least four"}]));
    assert!(told(named, object, None)[0].ends_with("index out of bounds: 3 evaluating rule: at least four"));
}

fn spec(properties: Value, rules: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {"type": "object", "properties": properties, "x-kubernetes-validations": rules}}})
}

#[test]
fn rules_hold_or_say_why_not() {
    let properties = json!({"min": {"type": "integer"}, "max": {"type": "integer"}, "names": {"type": "array", "items": {"type": "string"}},
        "namespace": {"type": "string"}, "a.b": {"type": "integer"}, "x-y": {"type": "integer"}, "ratio": {"type": "number"},
        "labels": {"type": "object", "additionalProperties": {"type": "string"}}, "port": {"x-kubernetes-int-or-string": true},
        "mem": {"type": "string"}, "at": {"type": "string", "format": "date-time"}, "ttl": {"type": "string", "format": "duration"}});
    let object = json!({"spec": {"min": 1, "max": 5, "names": ["a", "b"], "namespace": "n", "a.b": 3, "x-y": 4, "ratio": 2,
        "labels": {"k": "v", "with-dash": "w"}, "port": 80, "mem": "1Gi", "at": "2026-11-20T13:03:48Z", "ttl": "1h"}});
    for rule in [
        "self.min <= self.max",
        "self.names.all(n, n.size() == 1)",
        "self.names.exists(n, n == 'b') && !self.names.exists(n, n == 'z')",
        "self.__namespace__ == 'n'",
        "self.a__dot__b == 3 && self.x__dash__y == 4",
        "self.ratio == 2.0",
        "has(self.min) && !has(self.missing)",
        "self.labels['with-dash'] == 'w' && 'k' in self.labels",
        "type(self.port) == int && self.port < 100",
        "quantity(self.mem).isGreaterThan(quantity('512Mi'))",
        "quantity('1').add(quantity('500m')).compareTo(quantity('1.5')) == 0",
        "isQuantity('1x') == false",
        "self.names.isSorted()",
        "[3, 1, 2].max() == 3 && [3, 1, 2].min() == 1 && [3, 1].sum() == 4",
        "self.names.indexOf('b') == 1 && [1, 2, 1].lastIndexOf(1) == 2 && [1].indexOf(3) == -1",
        "'abc123'.find('[0-9]+') == '123'",
        "'a1b2'.findAll('[0-9]').size() == 2",
        "url('https://example.com:80/path?k=v').getHost() == 'example.com:80'",
        "isURL('nope nope') == false",
        "isIP('10.0.0.1') && ip('fe80::1').family() == 6 && isCIDR('10.0.0.0/8')",
        "cidr('10.0.0.0/8').containsIP('10.1.2.3')",
        "self.at > timestamp('2020-01-01T00:00:00Z')",
        "self.ttl == duration('60m')",
        "'a,b'.split(',').size() == 2 && 'AbC'.lowerAscii() == 'abc'",
        "self.names.map(n, n + '!').join('-') == 'a!-b!'",
        "format.dns1123Label().validate('ok').hasValue() == false",
    ] {
        let schema = spec(properties.clone(), json!([{"rule": rule}]));
        assert_eq!(told(schema, object.clone(), None), Vec::<String>::new(), "{rule}");
    }
    let failing = spec(
        properties,
        json!([
            {"rule": "self.min > self.max"},
            {"rule": "self.min > 2", "message": "too small"},
            {"rule": "self.min > 2", "messageExpression": "'least is ' + string(self.min)", "reason": "FieldValueForbidden", "fieldPath": ".min"},
        ]),
    );
    assert_eq!(
        told(failing, object, None),
        [
            "spec: Invalid value: failed rule: self.min > self.max",
            "spec: Invalid value: too small",
            "spec.min: Forbidden: least is 1"
        ]
    );
}

#[test]
fn simple_values_are_shown() {
    let value = |type_: &str, rule: Value| json!({"type": "object", "properties": {"a": {"type": type_, "x-kubernetes-validations": [rule]}}});
    let no = json!({"rule": "false", "message": "no"});
    for (type_, given, expected) in [
        ("string", json!("b"), "a: Invalid value: \"b\": no"),
        ("integer", json!(3), "a: Invalid value: 3: no"),
        ("boolean", json!(false), "a: Invalid value: false: no"),
        ("array", json!([1]), "a: Invalid value: no"),
        ("object", json!({"b": 1}), "a: Invalid value: no"),
    ] {
        assert_eq!(told(value(type_, no.clone()), json!({"a": given}), None), [expected]);
    }
    let twice = json!({"rule": "false", "message": "no", "reason": "FieldValueDuplicate"});
    assert_eq!(told(value("string", twice), json!({"a": "b"}), None), ["a: Duplicate value: \"b\""]);
    let broken = json!({"rule": "1 / (self - 3) == 1"});
    let errors = told(value("integer", broken), json!({"a": 3}), None);
    assert!(errors[0].starts_with("a: Invalid value: \"integer\": "), "{errors:?}");
}

#[test]
fn transitions_are_checked_on_updates_only() {
    let schema = json!({"type": "object", "properties": {"a": {"type": "string",
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "immutable"}]},
        "l": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items": {"type": "object",
            "properties": {"k": {"type": "string"}, "v": {"type": "integer"}},
            "x-kubernetes-validations": [{"rule": "self.v >= oldSelf.v", "message": "may grow only"}]}}}});
    let object = |a: &str, v: i64| json!({"a": a, "l": [{"k": "new", "v": 0}, {"k": "x", "v": v}]});
    assert!(told(schema.clone(), object("x", 1), None).is_empty());
    assert!(told(schema.clone(), object("x", 2), Some(object("x", 1))).is_empty());
    assert_eq!(
        told(schema, object("y", 0), Some(object("x", 1))),
        ["a: Invalid value: \"y\": immutable", "l[1]: Invalid value: may grow only"]
    );
}

#[test]
fn expressions_that_are_none_are_refused() {
    for (bad, part) in [
        ("self.", "ERROR: <input>:1:"),
        ("self.a == other", "undeclared reference to 'other'"),
        ("(((", "ERROR"),
    ] {
        let error = CompiledRule::compile(bad).unwrap_err().to_string();
        assert!(error.contains(part), "{bad}: {error}");
    }
    let deep = format!("{}1{}", "(".repeat(5000), ")".repeat(5000));
    assert!(CompiledRule::compile(&deep).is_err());
    assert!(CompiledRule::compile(&"1+".repeat(MOST_EXPRESSION)).is_err());
    // What is let through does not overflow the stack of a thread.
    let chain = format!("{}1 == 0", "1+".repeat(MOST_OPERATORS - 2));
    let nested = format!("{}true{}", "(".repeat(MOST_NESTING), ")".repeat(MOST_NESTING));
    let lists = format!("{}{} == []", "[".repeat(MOST_NESTING), "]".repeat(MOST_NESTING));
    let not = format!("{}true", "!".repeat(MOST_OPERATORS));
    let turns = format!("{}1", "true?1:".repeat(MOST_OPERATORS));
    for expression in [chain, nested, lists, not, turns] {
        if let Ok(compiled) = CompiledRule::compile(&expression) {
            let bindings = Bindings { new: cel::Value::Null, old: None, extent: cost::Extent::default() };
            let _either = compiled.run(&bindings, &mut 1e9);
        }
    }
}

#[test]
fn endless_rules_are_not_run() {
    let many: Vec<_> = (0..2000).collect();
    let schema = spec(
        json!({"l": {"type": "array", "items": {"type": "integer"}}, "s": {"type": "string"}}),
        json!([{"rule": "self.l.all(a, self.l.all(b, self.l.all(c, self.l.all(d, a + b + c + d >= 0))))"},
            {"rule": "self.s.replace('a', self.s).replace('a', self.s).replace('a', self.s).size() > 0"}]),
    );
    let errors = told(schema, json!({"spec": {"l": many, "s": "a".repeat(5000)}}), None);
    assert_eq!(errors.len(), 2);
    assert!(errors.iter().all(|error| error.contains("cost")), "{errors:?}");
}

#[test]
fn all_that_is_declared_can_be_run() {
    let text = json!({"type": "string", "maxLength": 10});
    let properties = json!({"list": {"type": "array", "maxItems": 10, "items": text}, "namespace": text,
        "map": {"type": "object", "maxProperties": 10, "additionalProperties": text}});
    let object = json!({"spec": {"list": ["a", "b"], "map": {"k": "v", "l": "v"}, "namespace": "n"}});
    let rules = [
        "self.list.all(i, one, i < 2 && one != '') && !self.list.all(i, one, one == 'a')",
        "self.map.exists(key, value, key == 'k' && value == 'v') && self.map.existsOne(key, value, key == 'l')",
        "self.map.exists_one(key, value, value == 'v') == false",
        "self.list.transformList(i, one, one + string(i)) == ['a0', 'b1']",
        "self.map.transformList(key, value, key == 'k', key + value) == ['kv']",
        "self.map.transformMap(key, value, key + value)['k'] == 'kv'",
        "self.list.transformMap(i, one, i > 0, one)[1] == 'b' && self.list.transformMapEntry(i, one, {one: i})['b'] == 1",
        "self.list.all(i, one, self.map.all(key, value, one != key && i < 2))",
        "self.list.first().value() == 'a' && self.list.last() == optional.of('b') && ![].first().hasValue()",
        "[optional.of(1), optional.none()].unwrapOpt() == [1] && optional.unwrap([optional.of(2)]) == [2]",
        "optional.of(1).optMap(x, x + 1).value() == 2 && optional.of(1).optFlatMap(x, optional.of(x)).hasValue()",
        "sets.contains([1, 2], [2]) && sets.equivalent([1, 1], [1]) && !sets.intersects([1], [2])",
        "[3, 1].sort() == [1, 3] && [[1], [2]].flatten() == [1, 2] && [1, 2, 3].slice(1, 2) == [2] && [1, 1].distinct() == [1]",
        "[1, 2].reverse() == [2, 1] && lists.range(2) == [0, 1] && ['bb', 'a'].sortBy(x, size(x)) == ['a', 'bb']",
        "semver('1.2.3').isLessThan(semver('1.10.0')) && semver('1.0.0-rc.1').compareTo(semver('1.0.0')) == -1",
        "isSemver('1.2.3-a.1+b') && !isSemver('v1.2') && isSemver('v1.2', true) && semver('v1.02', true).minor() == 2",
        "semver('4.5.6').major() == 4 && semver('4.5.6').patch() == 6 && !isSemver('01.2.3') && !isSemver('1.2')",
        "format.named('dns1123Label').value().validate('a') == optional.none() && format.dns1123Label().validate('A').hasValue()",
        "strings.quote('a') == '\"a\"' && '%s %d'.format(['a', dyn(1)]) == 'a 1' && 'abc'.charAt(1) == 'b'",
        "'a,b'.split(',').join('-') == 'a-b' && 'abcabc'.lastIndexOf('c') == 5 && ' a '.trim() == 'a'",
        "url('https://a.b:80/c?d=e').getQuery()['d'] == ['e'] && 'a1b2'.findAll('[0-9]') == ['1', '2']",
        "ip('10.0.0.1').family() == 4 && cidr('10.0.0.0/8').containsIP('10.1.1.1') && cidr('10.0.0.0/8').ip() == ip('10.0.0.0')",
        "string(ip('10.0.0.1')) == '10.0.0.1' && cidr('10.0.0.0/8').prefixLength() == 8 && ip.isCanonical('10.0.0.1')",
        "quantity('1').add(1).sub(quantity('500m')).isGreaterThan(quantity('1'))",
        "timestamp('2026-01-02T03:04:05Z').getFullYear() == 2026 && duration('90m').getHours() == 1 && duration('1h') + duration('1m') > duration('1h')",
        "self.namespace == 'n' && self.__namespace__ == 'n'",
    ];
    for rule in rules {
        let schema = spec(properties.clone(), json!([{"rule": rule}]));
        let mut errors = crate::field::ErrorList::default();
        written::check(&Structural::read(&schema), &crate::field::Path::new("schema"), false, &mut errors);
        // Some cost too much where nothing is known of sizes.
        let wrong = errors.iter().filter(|error| error.kind != ErrorKind::Forbidden);
        assert_eq!(wrong.map(ToString::to_string).collect::<Vec<_>>(), Vec::<String>::new());
        assert_eq!(told(schema, object.clone(), None), Vec::<String>::new());
    }
}

#[test]
fn rules_of_an_object_share_a_budget() {
    let rules: Vec<_> =
        (0..40).map(|n| json!({"rule": format!("self.l.all(a, self.l.all(b, a + b + {n} >= 0))")})).collect();
    let schema = spec(json!({"l": {"type": "array", "items": {"type": "integer"}}}), json!(rules));
    let many: Vec<_> = (0..200).collect();
    let refused = told(schema, json!({"spec": {"l": many}}), None).len();
    assert!(refused > 0 && refused < 40, "{refused}");
}
