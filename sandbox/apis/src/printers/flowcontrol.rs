//! Rows of flow schemas and priority levels.

use super::{NONE, age, name};
use crate::kind::{Cell, Column};
use crate::tree::{at, get, int, list, text};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Columns of flow schemas.
pub const FLOW_SCHEMA: &[Column] = &[
    Column::NAME,
    Column::text(
        "PriorityLevel",
        "`name` is the name of the priority level configuration being referenced Required.",
    ),
    Column::text(
        "MatchingPrecedence",
        "`matchingPrecedence` is used to choose among the FlowSchemas that match a given request. The chosen FlowSchema is \
         among those with the numerically lowest (which we take to be logically highest) MatchingPrecedence.  Each \
         MatchingPrecedence value must be ranged in [1,10000]. Note that if the precedence is not specified, it will be set \
         to 1000 as default.",
    ),
    Column::text(
        "DistinguisherMethod",
        "`distinguisherMethod` defines how to compute the flow distinguisher for requests that match this schema. `nil` \
         specifies that the distinguisher is disabled and thus will always be the empty string.",
    ),
    Column::AGE,
    Column::text("MissingPL", "references a broken or non-existent PriorityLevelConfiguration"),
];

/// A flow schema.
pub fn flow_schema(object: &Value, now: Timestamp) -> Vec<Cell> {
    let spec = get(object, "spec");
    let method = at(spec, &["distinguisherMethod", "type"]).as_str().unwrap_or(NONE);
    let conditions = list(get(object, "status"), "conditions");
    let dangling = conditions.iter().find(|condition| text(condition, "type") == "Dangling");
    vec![
        name(object),
        json!(text(get(spec, "priorityLevelConfiguration"), "name")),
        json!(int(spec, "matchingPrecedence")),
        json!(method),
        age(object, now),
        json!(dangling.map_or("?", |condition| text(condition, "status"))),
    ]
}

/// Schemas are shown in the order in which requests are matched with them.
pub fn precedence(object: &Value) -> i64 {
    int(get(object, "spec"), "matchingPrecedence")
}

/// Columns of priority levels.
pub const PRIORITY_LEVEL: &[Column] = &[
    Column::NAME,
    Column::text(
        "Type",
        "`type` indicates whether this priority level is subject to limitation on request execution.  A value of `\"Exempt\"` \
         means that requests of this priority level are not subject to a limit (and thus are never queued) and do not \
         detract from the capacity made available to other priority levels.  A value of `\"Limited\"` means that (a) \
         requests of this priority level _are_ subject to limits and (b) some of the server's limited capacity is made \
         available exclusively to this priority level. Required.",
    ),
    Column::text(
        "NominalConcurrencyShares",
        "`nominalConcurrencyShares` (NCS) contributes to the computation of the NominalConcurrencyLimit (NominalCL) of this \
         level. This is the number of execution seats available at this priority level.",
    ),
    Column::text(
        "Queues",
        "`queues` is the number of queues for this priority level. The queues exist independently at each apiserver.",
    ),
    Column::text(
        "HandSize",
        "`handSize` is a small positive number that configures the shuffle sharding of requests into queues.",
    ),
    Column::text(
        "QueueLengthLimit",
        "`queueLengthLimit` is the maximum number of requests allowed to be waiting in a given queue of this priority level \
         at a time; excess requests are rejected.",
    ),
    Column::AGE,
];

/// A priority level.
pub fn priority_level(object: &Value, now: Timestamp) -> Vec<Cell> {
    let limited = at(object, &["spec", "limited"]);
    let queuing = at(limited, &["limitResponse", "queuing"]);
    let number = |value: &Value| value.as_i64().map_or(json!(NONE), Value::from);
    vec![
        name(object),
        json!(text(get(object, "spec"), "type")),
        number(get(limited, "nominalConcurrencyShares")),
        number(get(queuing, "queues")),
        number(get(queuing, "handSize")),
        number(get(queuing, "queueLengthLimit")),
        age(object, now),
    ]
}
