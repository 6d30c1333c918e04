//! Quantities as they stand in objects.

use crate::tree::{entries, get, text};
use drydock_apimachinery::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeMap;

/// Amounts by the names of resources.
pub type Amounts = BTreeMap<String, Quantity>;

/// What a pod's containers ask for at the most at one time (`AggregateContainerRequests`).
pub fn requests_of_containers<'a>(lists: impl Fn(&str) -> &'a Value) -> Amounts {
    let of = |container: &Value| -> Amounts {
        entries(get(container, "resources"), "requests")
            .filter_map(|(name, amount)| Some((name.clone(), Quantity::of(amount)?)))
            .collect()
    };
    let containers = |field: &str| lists(field).as_array().into_iter().flatten();
    let (mut all, mut sidecars, mut first) = (Amounts::new(), Amounts::new(), Amounts::new());
    for container in containers("containers") {
        add(&mut all, &of(container));
    }
    for container in containers("initContainers") {
        let mut asked = of(container);
        if text(container, "restartPolicy") == "Always" {
            add(&mut all, &asked);
            add(&mut sidecars, &asked);
            asked.clone_from(&sidecars);
        } else {
            add(&mut asked, &sidecars);
        }
        most(&mut first, asked);
    }
    most(&mut all, first);
    all
}

fn add(to: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let sum = to.get(name).map_or(*amount, |before| before.plus(*amount));
        to.insert(name.clone(), sum);
    }
}

fn most(of: &mut Amounts, others: Amounts) {
    for (name, amount) in others {
        if of.get(&name).is_none_or(|before| *before < amount) {
            of.insert(name, amount);
        }
    }
}

/// True if both are quantities of the same value.
pub fn same(one: &Value, other: &Value) -> bool {
    Quantity::of(one).is_some_and(|one| Quantity::of(other) == Some(one))
}

/// True if it is less than 0.
pub fn is_negative(value: &Value) -> bool {
    Quantity::of(value).is_some_and(Quantity::is_negative)
}

/// Its canonical form; `0` if there is none.
pub fn shown(value: &Value) -> String {
    Quantity::of(value).unwrap_or_default().to_string()
}
