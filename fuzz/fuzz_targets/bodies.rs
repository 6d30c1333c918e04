//! Bodies of requests. The first byte chooses the form and the kind.
#![no_main]

use drydock_apimachinery::decode::{Format, complete, conform, decode, decode_untyped};
use drydock_apimachinery::schema::find;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else { return };
    let format = [Format::Json, Format::Yaml, Format::Protobuf][usize::from(choice % 3)];
    let (group, kind) = if choice / 3 % 2 == 0 { ("apps", "Deployment") } else { ("", "Pod") };
    let schema = find(group, "v1", kind).expect("a kind of ours");
    let _either = decode_untyped(body, format);
    let Ok(decoded) = decode(body, format, schema) else { return };
    let mut object = decoded.object;
    complete(&mut object, schema);
    let again = conform(&object, schema).expect("what was read can be read").object;
    let mut completed = again.clone();
    complete(&mut completed, schema);
    assert_eq!(completed, object);
});
