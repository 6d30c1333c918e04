//! Upstream's cases: cel-go's `checker/checker_test.go` (`types.json`) and apiextensions-apiserver's `schema/cel/compilation_test.go`
//! (`rules.json`, `costs.json`), its `validation_test.go` (`expressions.json`) and k8s.io/apiserver's `pkg/cel/library/cost_test.go` (`library_costs.json`).

use super::*;
use crate::crd::Structural;
use serde_json::Value;

fn cases(json: &str) -> Vec<Value> {
    serde_json::from_str(json).expect("cases")
}

#[test]
fn expressions_have_the_types_and_faults_that_cel_go_finds() {
    let mut wrong = Vec::new();
    for case in cases(include_str!("tests/types.json")) {
        let expression = case["expression"].as_str().expect("expression");
        let given = case["variables"].as_object().into_iter().flatten();
        let variables = given
            .map(|(name, type_)| (name.as_str(), functions::read(type_.as_str().expect("type"))))
            .collect();
        let told = check(expression, &Declarations::new(variables, Vec::new()))
            .map(|checked| checked.output().to_string());
        let wanted = case["type"]
            .as_str()
            .map(String::from)
            .ok_or_else(|| case["error"].as_str().expect("error").to_string());
        if told != wanted {
            wrong.push(format!("{expression}\n{told:?}\n{wanted:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is told of a schema's rules: of the rule or of its message.
fn told(schema: &Value, rule: &Value) -> Result<Checked, String> {
    let declared = Declared::of(&Structural::read(schema), false).expect("declared");
    let own = declared.type_of();
    let old = if rule["optionalOldSelf"] == true { Type::optional(own.clone()) } else { own.clone() };
    let declarations =
        Declarations::new(vec![("self", own), ("oldSelf", old)], vec![("selfType", &declared)]);
    let checked = check(rule["rule"].as_str().expect("rule"), &declarations)?;
    if !checked.gives(&Type::Bool) {
        return Err("must evaluate to a bool".into());
    }
    let message = rule["messageExpression"].as_str().unwrap_or("''");
    let made = check(message, &declarations)
        .map_err(|error| format!("messageExpression compilation failed: {error}"))?;
    if !made.gives(&Type::Text) {
        return Err("must evaluate to a string".into());
    }
    Ok(checked)
}

#[test]
fn rules_are_checked_as_upstream_checks_them() {
    for case in cases(include_str!("tests/rules.json")) {
        let (name, schema) = (&case["name"], &case["schema"]);
        let rules = schema["x-kubernetes-validations"].as_array().expect("rules").iter();
        for (rule, expected) in rules.zip(case["expected"].as_array().expect("expected")) {
            if rule["rule"].as_str().is_none_or(|rule| rule.trim().is_empty()) {
                continue;
            }
            let told = told(schema, rule);
            let error = expected["error"].as_str().or(expected["messageError"].as_str());
            match (error, told) {
                // Its own words are of who asks.
                (Some("compilation failed"), Err(_)) => {}
                (Some(error), Err(told)) => assert!(told.contains(error), "{name} {rule}: {told}"),
                (None, Ok(checked)) => {
                    if let Some(transition) = expected["transition"].as_bool() {
                        assert_eq!(checked.uses("oldSelf"), transition, "{name} {rule}");
                    }
                }
                (wanted, told) => panic!("{name} {rule}: {told:?} instead of {wanted:?}"),
            }
        }
    }
}

#[test]
fn what_upstream_runs_has_the_right_types() {
    let mut told = Vec::new();
    for case in cases(include_str!("tests/expressions.json")) {
        let schema = Structural::read(&case["schema"]);
        let declared = Declared::of(&schema, case["root"] == true).expect("declared");
        let own = declared.type_of();
        let declarations =
            Declarations::new(vec![("self", own.clone()), ("oldSelf", own)], vec![("selfType", &declared)]);
        for rule in case["valid"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            match check(rule, &declarations) {
                Ok(checked) if checked.gives(&Type::Bool) => {}
                other => told.push(format!("{} {rule}: {:?}", case["name"], other.map(|_| "no bool"))),
            }
        }
        for (rule, error) in case["wrong"].as_object().into_iter().flatten() {
            let found = check(rule, &declarations).err().unwrap_or_default();
            let error = error.as_str().expect("error");
            let error = error.rsplit_once("compilation failed: ").map_or(error, |(_, error)| error);
            if !found.contains(error) {
                told.push(format!("{} {rule}: {found:?} instead of {error}", case["name"]));
            }
        }
    }
    assert!(told.is_empty(), "{}", told.join("\n"));
}

#[test]
fn costs_are_what_upstream_estimates() {
    let mut wrong = Vec::new();
    for case in cases(include_str!("tests/costs.json")) {
        let schema = &case["schema"];
        let rule = &schema["x-kubernetes-validations"][0];
        let declared = Declared::of(&Structural::read(schema), false).expect("declared");
        let cost = told(schema, rule).expect("checked").most_cost(&declared);
        let fine = case["cost"].as_u64().is_none_or(|wanted| cost == wanted)
            && case["exceeds"].as_u64().is_none_or(|limit| cost >= limit);
        if !fine {
            wrong.push(format!("{case}: {cost}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn functions_cost_what_upstream_estimates() {
    cost::LONGEST_TEXT.set(Some(12));
    let authorizer = functions::named("kubernetes.authorization.Authorizer").expect("type");
    let declarations = Declarations::new(vec![("authorizer", authorizer)], Vec::new());
    let nothing = Declared::key();
    let mut wrong = Vec::new();
    for case in cases(include_str!("tests/library_costs.json")) {
        let expression = case["expression"].as_str().expect("expression");
        let checked = check(expression, &declarations);
        let cost = checked.map(|checked| cost::of(&checked, &nothing));
        let wanted =
            range::Range { min: case["min"].as_u64().expect("min"), max: case["max"].as_u64().expect("max") };
        if cost != Ok(wanted) {
            wrong.push(format!("{expression}: {cost:?} instead of {wanted:?}"));
        }
    }
    cost::LONGEST_TEXT.set(None);
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn places_are_counted_in_characters() {
    let told = |expression: &str| check(expression, &Declarations::default()).expect_err("unknown");
    let words = "undeclared reference to 'x' (in container '')";
    assert_eq!(
        told("'\u{fc}\u{1f600}' == x"),
        format!("ERROR: <input>:1:9: {words}\n | '\u{fc}\u{1f600}' == x\n | .\u{ff0e}\u{ff0e}.....^")
    );
    assert_eq!(told("true &&\n\tx"), format!("ERROR: <input>:2:2: {words}\n |  x\n | .^"));
    assert_eq!(
        told("\u{fc} == 1").lines().next(),
        Some("ERROR: <input>:1:1: Syntax error: token recognition error at: '\u{fc}'")
    );
}

/// Expressions may be written by anybody: they must neither take long nor much, whatever they say.
#[test]
fn hostile_expressions_come_to_an_end() {
    let list = functions::read("list(string)");
    let declarations = Declarations::new(vec![("self", list)], Vec::new());
    let nothing = Declared::key();
    let doubled = format!("self{}", ".map(x, {x: x})".repeat(60));
    let nested = format!("{}self{}", "{0: ".repeat(40), "}".repeat(40));
    let sums = format!("[]{}", " + []".repeat(400));
    let kinds = format!("[{}]", vec!["[[]]"; 300].join(", "));
    let free = format!("[[]]{}", ".map(x, [x, x])".repeat(40));
    let chain = format!("dyn(self){}", ".a".repeat(700));
    let options = format!("optional.of(self){}", ".optMap(x, [x, x])".repeat(40));
    for expression in [doubled, nested, sums, kinds, free, chain, options] {
        let before = std::time::Instant::now();
        if let Ok(checked) = check(&expression, &declarations) {
            checked.most_cost(&nothing);
        }
        assert!(before.elapsed().as_secs() < 10, "{expression}");
    }
    let unknown = vec!["a"; 300].join(" + ");
    let told = check(&unknown, &declarations).expect_err("unknown");
    assert!(told.ends_with("\n200 more errors were truncated"), "{told}");
}
