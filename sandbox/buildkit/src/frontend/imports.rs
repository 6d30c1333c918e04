//! `--cache-from`: what images of earlier builds say of the steps that made them. What can't be had is shown as a step that failed,
//! and the build goes on without it (solver/llbsolver/bridge.go).

use super::attributes::CacheFrom;
use super::{Prepared, blocking};
use crate::client::BuildClient;
use crate::engine::{ImageOutline, OutlineRequest};
use drydock_dockerfile::build::{Answer, BackendError};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use tonic::Status;

/// As the step's title has it.
fn shown(from: &CacheFrom) -> String {
    match from.name() {
        Some(name) => name.to_owned(),
        None => {
            let mut hasher = DefaultHasher::new();
            from.hash(&mut hasher);
            format!("{}:{}", from.kind, hasher.finish())
        }
    }
}

impl Prepared {
    /// Asks for all of them, unless the build takes nothing from the cache.
    ///
    /// # Errors
    /// If the engine breaks down.
    pub(super) async fn imports(&self, client: &Arc<BuildClient>) -> Result<Vec<ImageOutline>, Status> {
        let mut imports = Vec::new();
        for from in self.attributes.cache_from.iter().filter(|_| !self.attributes.no_cache) {
            let step = self.site.progress.step(&format!("importing cache manifest from {}", shown(from)));
            let import = from.name().map(|name| OutlineRequest {
                name: name.to_owned(),
                client: Arc::clone(client),
                cancelled: self.site.cancel.clone(),
            });
            let (engine, kind) = (self.engine(), from.kind.clone());
            let work = move || -> Answer<ImageOutline> {
                let unknown = || BackendError(format!("unknown cache importer: {kind}"));
                let found = engine.outline(&import.ok_or_else(unknown)?);
                found.map_err(|error| {
                    BackendError(format!("failed to configure {kind} cache importer: {error}"))
                })
            };
            imports.extend(step.finish(blocking(work).await?).ok());
        }
        Ok(imports)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_are_shown_by_name_or_number() {
        let read = |text: &str| serde_json::from_str::<CacheFrom>(text).unwrap();
        assert_eq!(shown(&read(r#"{"Type":"registry","Attrs":{"ref":"a/b:1"}}"#)), "a/b:1");
        let number = shown(&read(r#"{"Type":"local","Attrs":{"src":"x"}}"#));
        assert!(number.strip_prefix("local:").is_some_and(|n| n.parse::<u64>().is_ok()), "{number}");
    }
}
