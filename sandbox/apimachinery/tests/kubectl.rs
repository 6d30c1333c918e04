//! Protobuf bodies that kubectl 1.32 sent, against what the same command prints with `--dry-run=client -o json`.

use base64::Engine;
use drydock_apimachinery::decode::{Format, complete, decode};
use drydock_apimachinery::schema;
use serde_json::Value;

#[test]
fn protobuf_and_json_of_a_command_are_the_same_object() {
    let mut commands = 0;
    for line in include_str!("kubectl.jsonl").lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let of = |at: usize| row["gvk"][at].as_str().unwrap();
        let kind = schema::find(of(0), of(1), of(2)).unwrap();
        let body =
            base64::engine::general_purpose::STANDARD.decode(row["protobuf"].as_str().unwrap()).unwrap();
        let protobuf = decode(&body, Format::Protobuf, kind).unwrap();
        let json = decode(row["json"].to_string().as_bytes(), Format::Json, kind).unwrap();
        assert!(json.strict.is_empty(), "{}: {:?}", row["command"], json.strict);
        let (mut left, mut right) = (protobuf.object, json.object);
        assert_eq!(left, right, "{}", row["command"]);
        complete(&mut left, kind);
        complete(&mut right, kind);
        assert_eq!(left, right, "{}", row["command"]);
        commands += 1;
    }
    assert_eq!(commands, 15);
}
