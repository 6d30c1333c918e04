//! What to do next for a Deployment, given its ReplicaSets: a list of steps that is empty when nothing is to be done. Pure, so that each
//! case can be told in a table (pkg/controller/deployment/{sync,rolling,recreate}.go).

use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};

use super::replica_sets::{
    DESIRED, annotate_new, available, desired, find_new, is_rolling, limits, maximum, needs_size, new_size,
    proportion, revision, size,
};
use super::status::is_complete;
use crate::shared::meta::Meta;
use crate::shared::numbers::sum;

/// What there is.
#[derive(Debug)]
pub struct State<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// Its ReplicaSets.
    pub sets: &'a [Arc<ReplicaSet>],
    /// Whether pods of old ReplicaSets still run.
    pub old_pods_run: bool,
}

/// Something to be done. Indexes are those of [`State::sets`].
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Create the ReplicaSet of the Deployment's template.
    Create {
        /// With so many replicas,
        replicas: i32,
        /// as this revision.
        revision: i64,
    },
    /// Write the new ReplicaSet with other annotations or seconds.
    Refresh(usize, Box<ReplicaSet>),
    /// Give a ReplicaSet a size, and the notes of what the Deployment wants.
    Scale(usize, i32),
    /// Delete an old ReplicaSet.
    Delete(usize),
}

/// The steps for a state.
pub fn plan(state: &State<'_>) -> Vec<Step> {
    let sets = Sets::of(state);
    let deployment = state.deployment;
    let paused = deployment.spec.as_ref().is_some_and(|spec| spec.paused == Some(true));
    if deployment.deleting() {
        return Vec::new();
    }
    if let Some(index) = sets.new
        && let Some(refreshed) = refreshed(deployment, &state.sets[index], sets.next_revision)
    {
        return vec![Step::Refresh(index, Box::new(refreshed))];
    }
    if paused || is_scaling(state) {
        let steps = sets.scale();
        return if steps.is_empty() { sets.clean_up() } else { steps };
    }
    let steps = if is_rolling(deployment) { sets.roll() } else { sets.recreate(state.old_pods_run) };
    if steps.is_empty() && is_complete(deployment) { sets.clean_up() } else { steps }
}

/// The new ReplicaSet as it should be written, if it is not so.
fn refreshed(deployment: &Deployment, set: &ReplicaSet, revision: i64) -> Option<ReplicaSet> {
    let mut copy = set.clone();
    let mut changed = annotate_new(deployment, &mut copy, revision, true);
    let seconds = deployment.spec.as_ref().and_then(|spec| spec.min_ready_seconds).unwrap_or(0);
    if let Some(spec) = &mut copy.spec
        && spec.min_ready_seconds.unwrap_or(0) != seconds
    {
        spec.min_ready_seconds = Some(seconds);
        changed = true;
    }
    changed.then_some(copy)
}

/// Whether the Deployment was scaled since its ReplicaSets were (`isScalingEvent`).
pub fn is_scaling(state: &State<'_>) -> bool {
    state.sets.iter().filter(|set| size(set) > 0).any(|set| {
        set.annotation(DESIRED)
            .and_then(|text| text.parse::<i32>().ok())
            .is_some_and(|noted| noted != desired(state.deployment))
    })
}

/// The ReplicaSets, sorted out.
struct Sets<'a> {
    deployment: &'a Deployment,
    all: &'a [Arc<ReplicaSet>],
    /// The one with the Deployment's template.
    new: Option<usize>,
    /// The others, oldest first.
    old: Vec<usize>,
    /// One more than the highest of the old ones.
    next_revision: i64,
}

impl<'a> Sets<'a> {
    fn of(state: &State<'a>) -> Self {
        let new = find_new(state.deployment, state.sets);
        let mut old: Vec<usize> = (0..state.sets.len()).filter(|index| Some(*index) != new).collect();
        old.sort_by_key(|index| (state.sets[*index].created(), state.sets[*index].name().to_owned()));
        let next_revision =
            old.iter().map(|index| revision(&state.sets[*index])).max().unwrap_or(0).saturating_add(1);
        Self { deployment: state.deployment, all: state.sets, new, old, next_revision }
    }

    fn total(&self) -> i32 {
        sum(self.all.iter().map(|set| size(set)))
    }

    fn active_old(&self) -> Vec<usize> {
        self.old.iter().copied().filter(|index| size(&self.all[*index]) > 0).collect()
    }

    fn create(&self) -> Vec<Step> {
        vec![Step::Create {
            replicas: new_size(self.deployment, self.total(), 0),
            revision: self.next_revision,
        }]
    }

    /// A step if the ReplicaSet has not that size, or not the notes that go with it.
    fn scale_to(&self, index: usize, replicas: i32) -> Option<Step> {
        let set = &self.all[index];
        (size(set) != replicas || needs_size(self.deployment, set)).then_some(Step::Scale(index, replicas))
    }

    // === rolling update ===

    fn roll(&self) -> Vec<Step> {
        let Some(new) = self.new else { return self.create() };
        let steps = self.grow_new(new);
        if steps.is_empty() { self.shrink_old(new) } else { steps }
    }

    fn grow_new(&self, new: usize) -> Vec<Step> {
        let current = size(&self.all[new]);
        let wanted = match current.cmp(&desired(self.deployment)) {
            std::cmp::Ordering::Equal => return Vec::new(),
            std::cmp::Ordering::Greater => desired(self.deployment),
            std::cmp::Ordering::Less => new_size(self.deployment, self.total(), current),
        };
        if wanted == current { Vec::new() } else { vec![Step::Scale(new, wanted)] }
    }

    /// Takes away first pods of old ReplicaSets that are not available anyway, then as many as may be missing
    /// (`reconcileOldReplicaSets`).
    fn shrink_old(&self, new: usize) -> Vec<Step> {
        let old = self.active_old();
        if old.is_empty() {
            return Vec::new();
        }
        let minimum = desired(self.deployment).saturating_sub(limits(self.deployment).1);
        let new_unavailable = size(&self.all[new]).saturating_sub(available(&self.all[new]));
        let most = self.total().saturating_sub(minimum).saturating_sub(new_unavailable);
        if most <= 0 {
            return Vec::new();
        }
        let mut sizes: Vec<(usize, i32)> =
            old.iter().map(|index| (*index, size(&self.all[*index]))).collect();
        let mut taken = 0;
        for (index, size) in &mut sizes {
            let unavailable = size.saturating_sub(available(&self.all[*index]));
            let part = (most - taken).min(unavailable).max(0);
            *size -= part;
            taken += part;
        }
        let all_available = sum(self.all.iter().map(|set| available(set)));
        let mut spare = all_available.saturating_sub(minimum);
        for (_, size) in &mut sizes {
            let part = spare.min(*size).max(0);
            *size -= part;
            spare -= part;
        }
        let changed = sizes.into_iter().filter(|(index, wanted)| size(&self.all[*index]) != *wanted);
        changed.map(|(index, size)| Step::Scale(index, size)).collect()
    }

    // === recreate ===

    fn recreate(&self, old_pods_run: bool) -> Vec<Step> {
        let old = self.active_old();
        if !old.is_empty() {
            return old.into_iter().map(|index| Step::Scale(index, 0)).collect();
        }
        if old_pods_run {
            return Vec::new();
        }
        match self.new {
            None => self.create(),
            Some(new) => self.scale_to(new, desired(self.deployment)).into_iter().collect(),
        }
    }

    // === scaling ===

    /// Spreads a change of scale over the ReplicaSets (`scale`).
    fn scale(&self) -> Vec<Step> {
        if let Some(only) = self.active_or_latest() {
            let wanted = desired(self.deployment);
            return if size(&self.all[only]) == wanted {
                self.scale_notes(only)
            } else {
                vec![Step::Scale(only, wanted)]
            };
        }
        if self.is_saturated() {
            return self.active_old().into_iter().map(|index| Step::Scale(index, 0)).collect();
        }
        if is_rolling(self.deployment) { self.spread() } else { Vec::new() }
    }

    fn scale_notes(&self, only: usize) -> Vec<Step> {
        self.scale_to(only, size(&self.all[only])).into_iter().collect()
    }

    /// The only ReplicaSet with replicas, or the latest if none has any; `None` if several have.
    fn active_or_latest(&self) -> Option<usize> {
        let active: Vec<usize> = (0..self.all.len()).filter(|index| size(&self.all[*index]) > 0).collect();
        match active[..] {
            [] => self.new.or_else(|| self.old.last().copied()),
            [only] => Some(only),
            _ => None,
        }
    }

    /// Whether the new ReplicaSet has all that is wanted (`IsSaturated`).
    fn is_saturated(&self) -> bool {
        let Some(new) = self.new else { return false };
        let set = &self.all[new];
        let noted = set.annotation(DESIRED).and_then(|text| text.parse::<i32>().ok());
        let wanted = desired(self.deployment);
        size(set) == wanted && noted == Some(wanted) && available(set) == wanted
    }

    fn spread(&self) -> Vec<Step> {
        let mut active: Vec<usize> =
            (0..self.all.len()).filter(|index| size(&self.all[*index]) > 0).collect();
        let total = sum(active.iter().map(|index| size(&self.all[*index])));
        let allowed = if desired(self.deployment) > 0 { maximum(self.deployment) } else { 0 };
        let to_add = allowed.saturating_sub(total);
        // Larger first; of equal ones the newer grows first and the older shrinks first.
        active.sort_by(|a, b| {
            let (a, b) = (&self.all[*a], &self.all[*b]);
            let by_age =
                if to_add > 0 { b.created().cmp(&a.created()) } else { a.created().cmp(&b.created()) };
            size(b).cmp(&size(a)).then(by_age).then_with(|| a.name().cmp(b.name()))
        });
        let mut added = 0;
        let mut sizes = Vec::with_capacity(active.len());
        for index in &active {
            let set = &self.all[*index];
            let part = proportion(set, self.deployment, to_add, added);
            sizes.push(size(set).saturating_add(part));
            added = part.saturating_add(added);
        }
        if let Some(first) = sizes.first_mut() {
            *first = first.saturating_add(to_add.saturating_sub(added)).max(0);
        }
        active.into_iter().zip(sizes).filter_map(|(index, size)| self.scale_to(index, size)).collect()
    }

    // === history ===

    /// Old ReplicaSets beyond the limit, oldest revision first (`cleanupDeployment`).
    fn clean_up(&self) -> Vec<Step> {
        let limit = self.deployment.spec.as_ref().and_then(|spec| spec.revision_history_limit).unwrap_or(10);
        let mut alive: Vec<usize> =
            self.old.iter().copied().filter(|index| !self.all[*index].deleting()).collect();
        let extra = alive.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
        alive.sort_by_key(|index| (revision(&self.all[*index]), self.all[*index].created()));
        let idle = |set: &ReplicaSet| {
            let status = set.status.as_ref();
            let observed = status.and_then(|status| status.observed_generation).unwrap_or(0);
            size(set) == 0
                && status.is_none_or(|status| status.replicas == 0)
                && set.metadata.generation.unwrap_or(0) <= observed
        };
        alive.into_iter().take(extra).filter(|index| idle(&self.all[*index])).map(Step::Delete).collect()
    }
}
