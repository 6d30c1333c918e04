//! Small groups: `policy`, `scheduling.k8s.io`, `coordination.k8s.io` and `node.k8s.io`.

use crate::defaults::others;
use crate::kind::{Generation, Kind, Scope, Subresource};
use crate::printers;
use crate::validation;

pub static POD_DISRUPTION_BUDGET: Kind = Kind {
    group: "policy",
    kind: "PodDisruptionBudget",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    short: &["pdb"],
    subresources: &[Subresource::status("PodDisruptionBudget")],
    generation: Generation::Spec,
    unconditional_update: false,
    prepare: others::prepare_budget,
    columns: printers::workloads::BUDGET,
    row: printers::workloads::budget,
    validate: validation::others::validate_budget,
    validate_status: validation::others::validate_budget_status,
    ..Kind::BASE
};

pub static PRIORITY_CLASS: Kind = Kind {
    group: "scheduling.k8s.io",
    kind: "PriorityClass",
    plural: "priorityclasses",
    singular: "priorityclass",
    short: &["pc"],
    scope: Scope::Cluster,
    generation: Generation::Spec,
    defaults: others::priority_class,
    columns: printers::others::PRIORITY_CLASS,
    row: printers::others::priority_class,
    validate: validation::others::validate_priority_class,
    ..Kind::BASE
};

pub static LEASE: Kind = Kind {
    group: "coordination.k8s.io",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    unconditional_update: false,
    create_on_update: true,
    columns: printers::others::LEASE,
    row: printers::others::lease,
    validate: validation::others::validate_lease,
    ..Kind::BASE
};

pub static RUNTIME_CLASS: Kind = Kind {
    group: "node.k8s.io",
    kind: "RuntimeClass",
    plural: "runtimeclasses",
    singular: "runtimeclass",
    scope: Scope::Cluster,
    unconditional_update: false,
    columns: printers::others::RUNTIME_CLASS,
    row: printers::others::runtime_class,
    validate: validation::others::validate_runtime_class,
    ..Kind::BASE
};
