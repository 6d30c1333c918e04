//! `docker history`: the steps of an image, the last one first, with what each weighs.

use super::{ChainId, LocalStore, error::Result};
use crate::Digest;
use serde::Serialize;

/// One step, as `GET /images/{name}/history` answers it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct HistoryItem {
    /// What was said.
    pub comment: String,
    /// When, in seconds since 1970.
    pub created: i64,
    /// The command.
    pub created_by: String,
    /// The image that the step made, if the node knows it; else `<missing>`.
    pub id: String,
    /// Bytes of the files of its layer.
    pub size: u64,
    /// Names of that image.
    pub tags: Option<Vec<String>>,
}

impl LocalStore {
    /// The steps of an image, the last one first.
    pub fn history(&self, id: &Digest) -> Result<Vec<HistoryItem>> {
        let image = self.get(id)?;
        let state = self.state();
        let mut items = Vec::new();
        let (mut below, mut diff_ids) = (None, image.config.rootfs.diff_ids.iter());
        for step in &image.config.history {
            let mut size = 0;
            if !step.empty_layer
                && let Some(diff_id) = diff_ids.next()
            {
                let chain = ChainId::of(below.as_ref(), diff_id);
                size = state.layers.get(&chain).map_or(0, |layer| layer.record.size);
                below = Some(chain);
            }
            items.push(HistoryItem {
                comment: step.comment.clone().unwrap_or_default(),
                created: step.created.as_deref().and_then(crate::oci::unix_seconds).unwrap_or(0),
                created_by: step.created_by.clone().unwrap_or_default(),
                id: "<missing>".into(),
                size,
                tags: None,
            });
        }
        items.reverse();
        // Classic builds on this node leave an image for each step.
        let mut of = Some(id.clone());
        for item in &mut items {
            let Some(record) = of.as_ref().and_then(|id| state.images.get_key_value(id)) else { break };
            let image = state.image(record.0, record.1);
            item.id = image.id.to_string();
            of = image.shown_parent().cloned();
            item.tags = Some(image.repo_tags).filter(|tags| !tags.is_empty());
        }
        Ok(items)
    }
}
