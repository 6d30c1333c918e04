//! ImageLocality: nodes that have a pod's images already are better, the more so the larger they are; an image that few nodes have
//! counts less, so that it does not draw every pod to them.

use super::{Cycle, MAX_SCORE, spread};

const MEGABYTE: i64 = 1024 * 1024;
const MIN_THRESHOLD: i64 = 23 * MEGABYTE;
const MAX_CONTAINER_THRESHOLD: i64 = 1000 * MEGABYTE;

#[allow(clippy::cast_precision_loss, clippy::cast_possible_truncation)] // sizes of images, as upstream computes with them
pub(super) fn score(cycle: &Cycle<'_>, nodes: &[usize], _: &spread::Counters) -> Option<Vec<i64>> {
    let all = cycle.cache.nodes().len().max(1) as f64;
    let images: Vec<(&str, f64)> = cycle
        .pod
        .images
        .iter()
        .map(|image| (image.as_str(), cycle.cache.nodes_with_image(image) as f64 / all))
        .filter(|(_, spread)| *spread > 0.0)
        .collect();
    if images.is_empty() {
        return None;
    }
    let most = MAX_CONTAINER_THRESHOLD * i64::try_from(cycle.pod.images.len()).unwrap_or(1);
    let score = |node: &usize| {
        let sizes = images.iter().filter_map(|(image, spread)| {
            let size = cycle.cache.nodes()[*node].images.get(*image)?;
            Some((*size as f64 * spread) as i64)
        });
        let sum = sizes.fold(0, i64::saturating_add).clamp(MIN_THRESHOLD, most);
        MAX_SCORE * (sum - MIN_THRESHOLD) / (most - MIN_THRESHOLD)
    };
    Some(nodes.iter().map(score).collect())
}
