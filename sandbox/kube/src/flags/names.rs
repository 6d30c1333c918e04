//! Flags of Kubernetes 1.35's components that this one's do not have, as `--help` lists them. Names alone: none of them does anything.

/// Whether a value must follow an unused flag of a component; none: there is no such flag.
pub(super) fn unused(component: &str, name: &str) -> Option<bool> {
    let (valued, switches) = match component {
        "kube-apiserver" => ([VALUED, API_SERVER, ""], [SWITCHES, API_SERVER_SWITCHES, ""]),
        "kube-controller-manager" => {
            ([VALUED, CLIENT, CONTROLLER_MANAGER], [SWITCHES, CLIENT_SWITCHES, CONTROLLER_MANAGER_SWITCHES])
        }
        "kube-scheduler" => ([VALUED, CLIENT, SCHEDULER], [SWITCHES, CLIENT_SWITCHES, ""]),
        _ => return None,
    };
    let has = |lists: [&str; 3]| lists.iter().any(|list| list.split_whitespace().any(|one| one == name));
    if has(valued) { Some(true) } else { has(switches).then_some(false) }
}

/// Of all, with a value.
const VALUED: &str = "\
     allow-metric-labels allow-metric-labels-manifest cert-dir disabled-metrics emulated-version \
     feature-gates http2-max-streams-per-connection log-flush-frequency log-json-info-buffer-size \
     log-text-info-buffer-size logging-format min-compatibility-version show-hidden-metrics-for-version \
     tls-cipher-suites tls-curve-preferences tls-min-version tls-sni-cert-key vmodule";

/// Of all, without.
const SWITCHES: &str = "\
     contention-profiling disable-http2-serving log-json-split-stream log-text-split-stream \
     permit-address-sharing permit-port-sharing profiling";

/// Of the API server.
const API_SERVER: &str = "\
     admission-control admission-control-config-file api-audiences apiserver-count \
     audit-log-batch-buffer-size audit-log-batch-max-size audit-log-batch-max-wait \
     audit-log-batch-throttle-burst audit-log-batch-throttle-qps audit-log-format audit-log-maxage \
     audit-log-maxbackup audit-log-maxsize audit-log-mode audit-log-path \
     audit-log-truncate-max-batch-size audit-log-truncate-max-event-size audit-log-version \
     audit-policy-file audit-webhook-batch-buffer-size audit-webhook-batch-max-size \
     audit-webhook-batch-max-wait audit-webhook-batch-throttle-burst audit-webhook-batch-throttle-qps \
     audit-webhook-config-file audit-webhook-initial-backoff audit-webhook-mode \
     audit-webhook-truncate-max-batch-size audit-webhook-truncate-max-event-size audit-webhook-version \
     authentication-config authentication-token-webhook-cache-ttl \
     authentication-token-webhook-config-file authentication-token-webhook-version authorization-config \
     authorization-policy-file authorization-webhook-cache-authorized-ttl \
     authorization-webhook-cache-unauthorized-ttl authorization-webhook-config-file \
     authorization-webhook-version cloud-config cloud-provider coordinated-leadership-lease-duration \
     coordinated-leadership-renew-deadline coordinated-leadership-retry-period cors-allowed-origins \
     debug-socket-path default-not-ready-toleration-seconds default-unreachable-toleration-seconds \
     default-watch-cache-size delete-collection-workers egress-selector-config-file \
     encryption-provider-config endpoint-reconciler-type etcd-compaction-interval \
     etcd-count-metric-poll-period etcd-db-metric-poll-interval etcd-healthcheck-timeout etcd-prefix \
     etcd-readycheck-timeout etcd-servers-overrides event-ttl external-hostname goaway-chance \
     identity-lease-duration-seconds identity-lease-renew-interval-seconds kubelet-port \
     kubelet-read-only-port kubelet-timeout kubernetes-service-node-port lease-reuse-duration-seconds \
     livez-grace-period max-connection-bytes-per-sec max-mutating-requests-inflight max-requests-inflight \
     min-request-timeout oidc-ca-file oidc-client-id oidc-groups-claim oidc-groups-prefix oidc-issuer-url \
     oidc-required-claim oidc-signing-algs oidc-username-claim oidc-username-prefix peer-advertise-ip \
     peer-advertise-port peer-ca-file request-timeout requestheader-uid-headers runtime-config \
     service-account-jwks-uri service-account-max-token-expiration service-account-signing-endpoint \
     shutdown-delay-duration shutdown-watch-termination-grace-period storage-backend \
     storage-initialization-timeout storage-media-type strict-transport-security-directives \
     tracing-config-file watch-cache-sizes";

/// Of the API server, without a value.
const API_SERVER_SWITCHES: &str = "\
     aggregator-reject-forwarding-redirects audit-log-batch-throttle-enable audit-log-compress \
     audit-log-truncate-enabled audit-webhook-batch-throttle-enable audit-webhook-truncate-enabled \
     emulation-forward-compatible enable-aggregator-routing enable-garbage-collector enable-logs-handler \
     enable-priority-and-fairness encryption-provider-config-automatic-reload \
     runtime-config-emulation-forward-compatible service-account-extend-token-expiration \
     service-account-lookup shutdown-send-retry-after watch-cache";

/// Of those that are the API server's clients.
const CLIENT: &str = "\
     authentication-kubeconfig authentication-token-webhook-cache-ttl authorization-always-allow-paths \
     authorization-kubeconfig authorization-webhook-cache-authorized-ttl \
     authorization-webhook-cache-unauthorized-ttl client-ca-file kube-api-burst kube-api-content-type \
     kube-api-qps leader-elect-lease-duration leader-elect-renew-deadline leader-elect-resource-lock \
     leader-elect-resource-name leader-elect-resource-namespace leader-elect-retry-period master \
     requestheader-allowed-names requestheader-client-ca-file requestheader-extra-headers-prefix \
     requestheader-group-headers requestheader-uid-headers requestheader-username-headers tls-cert-file \
     tls-private-key-file";

/// Of these, without a value.
const CLIENT_SWITCHES: &str = "authentication-skip-lookup authentication-tolerate-lookup-failure";

/// Of the controller manager.
const CONTROLLER_MANAGER: &str = "\
     attach-detach-reconcile-sync-period cidr-allocator-type cloud-config cloud-provider \
     cluster-signing-kube-apiserver-client-cert-file cluster-signing-kube-apiserver-client-key-file \
     cluster-signing-kubelet-client-cert-file cluster-signing-kubelet-client-key-file \
     cluster-signing-kubelet-serving-cert-file cluster-signing-kubelet-serving-key-file \
     cluster-signing-legacy-unknown-cert-file cluster-signing-legacy-unknown-key-file \
     concurrent-cron-job-syncs concurrent-daemonset-syncs concurrent-deployment-syncs \
     concurrent-endpoint-syncs concurrent-ephemeralvolume-syncs concurrent-gc-syncs \
     concurrent-horizontal-pod-autoscaler-syncs concurrent-job-syncs concurrent-namespace-syncs \
     concurrent-rc-syncs concurrent-replicaset-syncs concurrent-resource-claim-syncs \
     concurrent-resource-quota-syncs concurrent-service-endpoint-syncs concurrent-service-syncs \
     concurrent-serviceaccount-token-syncs concurrent-statefulset-syncs \
     concurrent-ttl-after-finished-syncs concurrent-validating-admission-policy-status-syncs \
     controller-start-interval endpoint-updates-batch-period endpointslice-updates-batch-period \
     external-cloud-volume-plugin flex-volume-plugin-dir horizontal-pod-autoscaler-upscale-stabilization \
     large-cluster-size-threshold leader-migration-config legacy-service-account-token-clean-up-period \
     max-endpoints-per-slice min-resync-period mirroring-concurrent-service-endpoint-syncs \
     mirroring-endpointslice-updates-batch-period mirroring-max-endpoints-per-subset \
     namespace-sync-period node-cidr-mask-size-ipv6 node-eviction-rate node-sync-period \
     pv-recycler-increment-timeout-nfs pv-recycler-minimum-timeout-hostpath \
     pv-recycler-minimum-timeout-nfs pv-recycler-pod-template-filepath-hostpath \
     pv-recycler-pod-template-filepath-nfs pv-recycler-timeout-increment-hostpath \
     pvclaimbinder-sync-period resource-quota-sync-period route-reconciliation-period \
     secondary-node-eviction-rate unhealthy-zone-threshold";

/// Of the controller manager, without a value.
const CONTROLLER_MANAGER_SWITCHES: &str = "\
     allow-untagged-cloud configure-cloud-routes disable-attach-detach-reconcile-sync \
     disable-force-detach-on-timeout enable-dynamic-provisioning enable-garbage-collector \
     enable-hostpath-provisioner enable-leader-migration";

/// Of the scheduler.
const SCHEDULER: &str = "config pod-max-in-unschedulable-pods-duration write-config-to";
