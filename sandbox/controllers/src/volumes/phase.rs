//! The phase of a volume, and why it is in it (`updateVolumePhase` of pv_controller.go).

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolume;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::PostParams;
use kube::{Api, Client};

use crate::error::Error;
use crate::shared::meta::Meta;

/// Whether a volume is in a phase.
pub fn is_in(volume: &PersistentVolume, phase: &str) -> bool {
    volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some(phase)
}

/// Writes a volume's phase, and a message with it, unless it is in it already.
pub async fn set(
    client: &Client,
    volume: &Arc<PersistentVolume>,
    phase: &str,
    message: Option<&str>,
) -> Result<Arc<PersistentVolume>, Error> {
    if is_in(volume, phase) {
        return Ok(volume.clone());
    }
    let mut copy = PersistentVolume::clone(volume);
    let status = copy.status.get_or_insert_default();
    status.phase = Some(phase.into());
    status.message = message.map(str::to_owned);
    status.last_phase_transition_time = Some(Time(Timestamp::now()));
    let api: Api<PersistentVolume> = Api::all(client.clone());
    Ok(Arc::new(api.replace_status(volume.name(), &PostParams::default(), &copy).await?))
}
