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
