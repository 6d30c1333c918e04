//! Patches of a Deployment. The first byte chooses the kind of patch.
#![no_main]

use drydock_apimachinery::patch::{self, PatchKind};
use drydock_apimachinery::schema::find;
use drydock_fuzz::deployment;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Some((choice, body)) = input.split_first() else { return };
    let kind = [PatchKind::Strategic, PatchKind::Merge, PatchKind::Json][usize::from(choice % 3)];
    let schema = find("apps", "v1", "Deployment").expect("a kind of ours");
    if let Ok(mut patched) = patch::apply(kind, deployment(), body, Some(schema)) {
        let _either = patched.conform(schema);
    }
});
