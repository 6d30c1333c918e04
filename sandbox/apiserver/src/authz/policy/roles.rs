//! Roles for people and components, and who has them (`policy.go`, `namespace_policy.go`).

use super::{EVENTS, READ, RoleRow, Short, WRITE};

/// Which role takes in which: the label, and the role that carries it.
pub const AGGREGATED: &[(&str, &str)] = &[
    ("admin", "edit"),
    ("admin", "system:aggregate-to-admin"),
    ("edit", "view"),
    ("edit", "system:aggregate-to-edit"),
    ("view", "system:aggregate-to-view"),
];

/// `NodeRules`.
pub const NODE: &[Short] = &[
    ("create", "authentication.k8s.io", "tokenreviews"),
    ("create", "authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews"),
    (READ, "-", "services"),
    ("create get list watch", "-", "nodes"),
    ("patch update", "-", "nodes/status"),
    ("patch update", "-", "nodes"),
    ("create patch update", "-", "events"),
    (READ, "-", "pods"),
    ("create delete", "-", "pods"),
    ("patch update", "-", "pods/status"),
    ("create", "-", "pods/eviction"),
    (READ, "-", "configmaps secrets"),
    ("get", "-", "persistentvolumeclaims persistentvolumes"),
    ("get", "-", "endpoints"),
    ("create get list watch", "certificates.k8s.io", "certificatesigningrequests"),
    ("create delete get patch update", "coordination.k8s.io", "leases"),
    ("get", "storage.k8s.io", "volumeattachments"),
    ("get patch update", "-", "persistentvolumeclaims/status"),
    ("create", "-", "serviceaccounts/token"),
    (READ, "storage.k8s.io", "csidrivers"),
    ("create delete get patch update", "storage.k8s.io", "csinodes"),
    (READ, "node.k8s.io", "runtimeclasses"),
    ("get", "resource.k8s.io", "resourceclaims"),
    ("deletecollection", "resource.k8s.io", "resourceslices"),
    ("create delete get list patch update watch", "resource.k8s.io", "resourceslices"),
    ("get", "-", "serviceaccounts"),
];

/// `clusterRoles`, but for that of nodes.
pub const CLUSTER_ROLES: &[RoleRow] = &[
    ("cluster-admin", &[("*", "*", "*"), ("*", "@", "*")]),
    (
        "system:discovery",
        &[(
            "get",
            "@",
            "/livez /readyz /healthz /version /version/ /openapi /openapi/* /api /api/* /apis /apis/*",
        )],
    ),
    (
        "system:monitoring",
        &[("get", "@", "/healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/*")],
    ),
    (
        "system:basic-user",
        &[
            ("create", "authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews"),
            ("create", "authentication.k8s.io", "selfsubjectreviews"),
        ],
    ),
    ("system:public-info-viewer", &[("get", "@", "/livez /readyz /healthz /version /version/")]),
    ("admin", &[]),
    ("edit", &[]),
    ("view", &[]),
    (
        "system:aggregate-to-admin",
        &[
            ("create", "authorization.k8s.io", "localsubjectaccessreviews"),
            (
                "create delete deletecollection get list patch update watch",
                "rbac.authorization.k8s.io",
                "roles rolebindings",
            ),
        ],
    ),
    ("system:aggregate-to-edit", EDIT),
    ("system:aggregate-to-view", VIEW),
    ("system:heapster", &[(READ, "-", "events pods nodes namespaces"), (READ, "extensions", "deployments")]),
    ("system:node-problem-detector", &[("get", "-", "nodes"), ("patch", "-", "nodes/status"), EVENTS]),
    (
        "system:kubelet-api-admin",
        &[
            (READ, "-", "nodes"),
            ("proxy", "-", "nodes"),
            (
                "*",
                "-",
                "nodes/configz nodes/healthz nodes/log nodes/metrics nodes/pods nodes/proxy nodes/spec nodes/stats",
            ),
        ],
    ),
    (
        "system:node-bootstrapper",
        &[("create get list watch", "certificates.k8s.io", "certificatesigningrequests")],
    ),
    (
        "system:auth-delegator",
        &[
            ("create", "authentication.k8s.io", "tokenreviews"),
            ("create", "authorization.k8s.io", "subjectaccessreviews"),
        ],
    ),
    ("system:kube-aggregator", &[(READ, "-", "services endpoints")]),
    (
        "system:kube-controller-manager",
        &[
            EVENTS,
            ("create", "coordination.k8s.io", "leases"),
            ("get update", "coordination.k8s.io", "leases=kube-controller-manager"),
            ("create", "-", "secrets serviceaccounts"),
            ("delete", "-", "secrets"),
            ("get", "-", "namespaces secrets serviceaccounts configmaps"),
            ("update", "-", "secrets serviceaccounts"),
            ("create", "authentication.k8s.io", "tokenreviews"),
            ("create", "authorization.k8s.io", "subjectaccessreviews"),
            ("list watch", "*", "*"),
            ("create", "-", "serviceaccounts/token"),
        ],
    ),
    (
        "system:kube-dns",
        &[("list watch", "-", "endpoints services"), ("list watch", "discovery.k8s.io", "endpointslices")],
    ),
    (
        "system:persistent-volume-provisioner",
        &[
            ("create delete get list watch", "-", "persistentvolumes"),
            ("get list update watch", "-", "persistentvolumeclaims"),
            (READ, "storage.k8s.io", "storageclasses"),
            ("watch", "-", "events"),
            EVENTS,
        ],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        &[("create", "certificates.k8s.io", "certificatesigningrequests/nodeclient")],
    ),
    (
        "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        &[("create", "certificates.k8s.io", "certificatesigningrequests/selfnodeclient")],
    ),
    (
        "system:volume-scheduler",
        &[
            ("get list patch update watch", "-", "persistentvolumes"),
            (READ, "storage.k8s.io", "storageclasses"),
            ("get list patch update watch", "-", "persistentvolumeclaims"),
        ],
    ),
    (
        "system:certificates.k8s.io:legacy-unknown-approver",
        &[("approve", "certificates.k8s.io", "signers=kubernetes.io/legacy-unknown")],
    ),
    (
        "system:certificates.k8s.io:kubelet-serving-approver",
        &[("approve", "certificates.k8s.io", "signers=kubernetes.io/kubelet-serving")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-approver",
        &[("approve", "certificates.k8s.io", "signers=kubernetes.io/kube-apiserver-client")],
    ),
    (
        "system:certificates.k8s.io:kube-apiserver-client-kubelet-approver",
        &[("approve", "certificates.k8s.io", "signers=kubernetes.io/kube-apiserver-client-kubelet")],
    ),
    (
        "system:service-account-issuer-discovery",
        &[(
            "get",
            "@",
            "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
        )],
    ),
    (
        "system:node-proxier",
        &[
            ("list watch", "-", "services endpoints"),
            (READ, "-", "nodes"),
            EVENTS,
            ("list watch", "discovery.k8s.io", "endpointslices"),
            ("list watch", "networking.k8s.io", "servicecidrs"),
        ],
    ),
    ("system:kube-scheduler", SCHEDULER),
];

const EDIT: &[Short] = &[
    (READ, "-", "pods/attach pods/proxy pods/exec pods/portforward secrets services/proxy"),
    ("impersonate", "-", "serviceaccounts"),
    (WRITE, "-", "pods pods/attach pods/proxy pods/exec pods/portforward"),
    ("create", "-", "pods/eviction"),
    (
        WRITE,
        "-",
        "replicationcontrollers replicationcontrollers/scale serviceaccounts services services/proxy \
         persistentvolumeclaims configmaps secrets events",
    ),
    ("create", "-", "serviceaccounts/token"),
    (
        WRITE,
        "apps",
        "statefulsets statefulsets/scale daemonsets deployments deployments/scale deployments/rollback replicasets \
         replicasets/scale",
    ),
    (WRITE, "autoscaling", "horizontalpodautoscalers"),
    (WRITE, "batch", "jobs cronjobs"),
    (
        WRITE,
        "extensions",
        "daemonsets deployments deployments/scale deployments/rollback ingresses replicasets replicasets/scale \
         replicationcontrollers/scale networkpolicies",
    ),
    (WRITE, "policy", "poddisruptionbudgets"),
    (WRITE, "networking.k8s.io", "networkpolicies ingresses"),
    ("create delete deletecollection get list patch update watch", "coordination.k8s.io", "leases"),
    (WRITE, "resource.k8s.io", "resourceclaims resourceclaimtemplates"),
];

const VIEW: &[Short] = &[
    (
        READ,
        "-",
        "pods replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status endpoints \
         persistentvolumeclaims persistentvolumeclaims/status configmaps",
    ),
    (
        READ,
        "-",
        "limitranges resourcequotas bindings events pods/status resourcequotas/status namespaces/status \
         replicationcontrollers/status pods/log",
    ),
    (READ, "-", "namespaces"),
    (READ, "discovery.k8s.io", "endpointslices"),
    (
        READ,
        "apps",
        "controllerrevisions statefulsets statefulsets/status statefulsets/scale daemonsets daemonsets/status deployments \
         deployments/status deployments/scale replicasets replicasets/status replicasets/scale",
    ),
    (READ, "autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status"),
    (READ, "batch", "jobs cronjobs cronjobs/status jobs/status"),
    (
        READ,
        "extensions",
        "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses ingresses/status \
         replicasets replicasets/scale replicasets/status replicationcontrollers/scale networkpolicies",
    ),
    (READ, "policy", "poddisruptionbudgets poddisruptionbudgets/status"),
    (READ, "networking.k8s.io", "networkpolicies ingresses ingresses/status"),
    (READ, "resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates"),
];

const SCHEDULER: &[Short] = &[
    EVENTS,
    ("create", "coordination.k8s.io", "leases"),
    ("get list update watch", "coordination.k8s.io", "leases=kube-scheduler"),
    ("create", "coordination.k8s.io", "leasecandidates"),
    ("deletecollection get list patch update watch", "coordination.k8s.io", "leasecandidates"),
    (READ, "-", "nodes"),
    ("delete get list watch", "-", "pods"),
    ("create", "-", "pods/binding bindings"),
    ("patch update", "-", "pods/status"),
    (READ, "-", "services replicationcontrollers"),
    (READ, "apps extensions", "replicasets"),
    (READ, "apps", "statefulsets"),
    (READ, "policy", "poddisruptionbudgets"),
    (READ, "-", "persistentvolumeclaims persistentvolumes"),
    ("create", "authentication.k8s.io", "tokenreviews"),
    ("create", "authorization.k8s.io", "subjectaccessreviews"),
    (READ, "storage.k8s.io", "csinodes"),
    (READ, "-", "namespaces"),
    (READ, "storage.k8s.io", "csidrivers"),
    (READ, "storage.k8s.io", "csistoragecapacities"),
    (READ, "storage.k8s.io", "volumeattachments"),
    (READ, "resource.k8s.io", "deviceclasses"),
    ("get list patch update watch", "resource.k8s.io", "resourceclaims"),
    ("patch update", "resource.k8s.io", "resourceclaims/status"),
    ("patch update", "-", "pods/finalizers"),
    (READ, "resource.k8s.io", "resourceslices"),
];

/// Who has a role of the same name in the cluster.
pub const CLUSTER_BINDINGS: &[(&str, &[&str])] = &[
    ("cluster-admin", &["g:system:masters"]),
    ("system:monitoring", &["g:system:monitoring"]),
    ("system:discovery", &["g:system:authenticated"]),
    ("system:basic-user", &["g:system:authenticated"]),
    ("system:public-info-viewer", &["g:system:authenticated", "g:system:unauthenticated"]),
    ("system:node-proxier", &["u:system:kube-proxy"]),
    ("system:kube-controller-manager", &["u:system:kube-controller-manager"]),
    ("system:kube-dns", &["s:kube-dns"]),
    ("system:kube-scheduler", &["u:system:kube-scheduler"]),
    ("system:volume-scheduler", &["u:system:kube-scheduler"]),
    // Nobody: the authoriser of nodes gives these rules to nodes.
    ("system:node", &[]),
    ("system:service-account-issuer-discovery", &["g:system:serviceaccounts"]),
];

/// Roles in a namespace.
pub const NAMESPACE_ROLES: &[(&str, RoleRow)] = &[
    (
        "kube-system",
        (
            "extension-apiserver-authentication-reader",
            &[(READ, "-", "configmaps=extension-apiserver-authentication")],
        ),
    ),
    ("kube-system", ("system:controller:bootstrap-signer", &[(READ, "-", "secrets")])),
    ("kube-system", ("system:controller:cloud-provider", &[("create get list watch", "-", "configmaps")])),
    (
        "kube-system",
        ("system:controller:token-cleaner", &[("delete get list watch", "-", "secrets"), EVENTS]),
    ),
    (
        "kube-system",
        (
            "system::leader-locking-kube-controller-manager",
            &[("watch", "-", "configmaps"), ("get update", "-", "configmaps=kube-controller-manager")],
        ),
    ),
    (
        "kube-system",
        (
            "system::leader-locking-kube-scheduler",
            &[("watch", "-", "configmaps"), ("get update", "-", "configmaps=kube-scheduler")],
        ),
    ),
    (
        "kube-public",
        (
            "system:controller:bootstrap-signer",
            &[(READ, "-", "configmaps"), ("update", "-", "configmaps=cluster-info"), EVENTS],
        ),
    ),
];

/// Namespace, binding, role and who has it.
pub const NAMESPACE_BINDINGS: &[(&str, &str, &str, &[&str])] = &[
    (
        "kube-system",
        "system::extension-apiserver-authentication-reader",
        "extension-apiserver-authentication-reader",
        &["u:system:kube-controller-manager", "u:system:kube-scheduler"],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-controller-manager",
        "system::leader-locking-kube-controller-manager",
        &["u:system:kube-controller-manager", "s:kube-controller-manager"],
    ),
    (
        "kube-system",
        "system::leader-locking-kube-scheduler",
        "system::leader-locking-kube-scheduler",
        &["u:system:kube-scheduler", "s:kube-scheduler"],
    ),
    (
        "kube-system",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &["s:bootstrap-signer"],
    ),
    (
        "kube-system",
        "system:controller:cloud-provider",
        "system:controller:cloud-provider",
        &["s:cloud-provider"],
    ),
    (
        "kube-system",
        "system:controller:token-cleaner",
        "system:controller:token-cleaner",
        &["s:token-cleaner"],
    ),
    (
        "kube-public",
        "system:controller:bootstrap-signer",
        "system:controller:bootstrap-signer",
        &["s:bootstrap-signer"],
    ),
];

/// What is bound beside: what kubeadm does for the user of `admin.conf`; and the controller manager, which works as itself and not, over
/// twenty connections, as a service account for each of its controllers. It could get all of their tokens anyway.
pub const MORE_BINDINGS: &[(&str, &str, &[&str])] = &[
    ("kubeadm:cluster-admins", "cluster-admin", &["g:kubeadm:cluster-admins"]),
    ("system:kube-controller-manager:controllers", "cluster-admin", &["u:system:kube-controller-manager"]),
];
