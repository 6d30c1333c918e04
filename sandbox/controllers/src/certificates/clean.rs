//! Deletes requests that are done with: an hour after they were approved or denied, a day after nobody did either.

use std::time::Duration;

use drydock_kubeclient::errors;
use drydock_kubeclient::informer::Informer;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::DeleteParams;

use super::request::is_issued;
use crate::context::{Context, Running};
use crate::shared::meta::Meta;

const PERIOD: Duration = Duration::from_secs(3600);
const DECIDED: i64 = 3600;
const PENDING: i64 = 24 * 3600;

/// Whether a request is to be deleted.
fn is_old(request: &CertificateSigningRequest, now: Timestamp) -> bool {
    let age = |time: Timestamp| now.duration_since(time).as_secs();
    let conditions = request.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let decided = |type_: &str| {
        conditions.clone().filter(|one| one.type_ == type_).any(|one| {
            let time = one.last_update_time.as_ref().map_or_else(|| request.created(), |time| time.0);
            age(time) > DECIDED
        })
    };
    let undecided =
        request.status.as_ref().is_none_or(|status| status.conditions.as_ref().is_none_or(Vec::is_empty));
    (decided("Approved") && is_issued(request))
        || decided("Denied")
        || decided("Failed")
        || (undecided && age(request.created()) > PENDING)
}

/// Sets the controller up.
pub fn start(context: &Context) -> Running {
    let requests: Informer<CertificateSigningRequest> = context.informer();
    let api: Api<CertificateSigningRequest> = Api::all(context.client.clone());
    Box::pin(async move {
        let mut ticks = tokio::time::interval(PERIOD);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            for request in requests.all().into_iter().filter(|request| is_old(request, Timestamp::now())) {
                match api.delete(request.name(), &DeleteParams::default()).await {
                    Ok(_) => {}
                    Err(error) if errors::is_not_found(&error) => {}
                    Err(error) => {
                        tracing::warn!(name = request.name(), %error, "a request could not be deleted")
                    }
                }
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::certificates::v1::CertificateSigningRequestStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};

    use super::super::request::condition;
    use super::*;
    use crate::shared::pods::tests::at;

    #[test]
    fn old_ones() {
        let request = |type_: Option<&str>, issued: bool| {
            let conditions = type_.map(|type_| {
                let mut one = condition(type_, "r", "m");
                one.last_update_time = Some(Time(at(0)));
                vec![one]
            });
            CertificateSigningRequest {
                metadata: ObjectMeta { creation_timestamp: Some(Time(at(0))), ..ObjectMeta::default() },
                status: Some(CertificateSigningRequestStatus {
                    conditions,
                    certificate: issued.then(|| k8s_openapi::ByteString(vec![1])),
                }),
                ..CertificateSigningRequest::default()
            }
        };
        for (type_, issued, seconds, expected) in [
            (None, false, 3601, false),
            (None, false, 86401, true),
            (Some("Denied"), false, 3600, false),
            (Some("Denied"), false, 3601, true),
            (Some("Approved"), true, 3601, true),
            (Some("Approved"), false, 3601, false),
        ] {
            assert_eq!(is_old(&request(type_, issued), at(seconds)), expected, "{type_:?} {seconds}");
        }
    }
}
