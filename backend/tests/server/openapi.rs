//! The checked-in OpenAPI document is the one that the code makes. To make it anew:
//! `DRYDOCK_UPDATE=1 cargo test -p drydock --test server openapi`

#[test]
fn the_document_is_up_to_date() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
    let made = drydock_backend::api::openapi().to_pretty_json().unwrap() + "\n";
    if std::env::var_os("DRYDOCK_UPDATE").is_some() {
        std::fs::write(path, &made).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        kept == made,
        "backend/openapi.json differs from the code. Look at the change, then: DRYDOCK_UPDATE=1 cargo test -p drydock --test server openapi"
    );
}

/// Every `operationId` and every `$ref` of a document.
fn walk(value: &serde_json::Value, ids: &mut Vec<String>, references: &mut Vec<String>) {
    let children: Vec<&serde_json::Value> = match value {
        serde_json::Value::Object(map) => {
            let text = |key: &str| map.get(key).and_then(|v| v.as_str()).map(str::to_owned);
            ids.extend(text("operationId"));
            references.extend(text("$ref"));
            map.values().collect()
        }
        serde_json::Value::Array(list) => list.iter().collect(),
        _ => vec![],
    };
    children.into_iter().for_each(|child| walk(child, ids, references));
}

#[test]
fn the_document_is_valid() {
    let document = serde_json::to_value(drydock_backend::api::openapi()).unwrap();
    let (mut ids, mut references) = (Vec::new(), Vec::new());
    walk(&document, &mut ids, &mut references);
    assert!(ids.len() > 20 && references.len() > 100);
    let all = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), all, "an operationId is there twice: {ids:?}");
    for reference in references {
        let place = reference.strip_prefix('#').and_then(|path| document.pointer(path));
        assert!(place.is_some(), "{reference} leads nowhere");
    }
    for scheme in ["token", "cookie"] {
        assert!(document.pointer(&format!("/components/securitySchemes/{scheme}")).is_some());
    }
    let upload = "/paths/~1sessions~1{id}~1nodes~1{node}~1file/put/requestBody/content/application~1octet-stream/schema";
    let reference = document.pointer(upload).unwrap()["$ref"].as_str().unwrap();
    let schema = document.pointer(&reference[1..]).unwrap();
    assert_eq!((&schema["type"], &schema["format"]), (&"string".into(), &"binary".into()));
}
