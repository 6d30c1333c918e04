//! What of the build cache goes by itself: dockerd's rules (moby `builder/builder-next/worker/gc.go`), applied after a build.
//!
//! They are shares of the disk. That is the one that the node sees, as `df` shows it: what a session may hold of it is less, and nobody
//! here knows how much; a full session can prune.

use super::records;
use crate::engine::Engine;
use drydock_buildkit::Prune;
use nix::sys::statvfs::statvfs;
use std::path::Path;
use std::time::Duration;

/// Builds that end soon after each other leave tidying to the next one (`throttle.After` in buildkit's `control`).
const EVERY: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Where the disk can't be asked.
const RESERVED: u64 = 2_000_000_000;
/// Of what may always stay, the share of caches that are easily had again: e · π · φ per cent.
const EASY_PERCENT: f64 = std::f64::consts::E * std::f64::consts::PI * 1.618_033_988_749_895;
/// These may use so much in any case.
const EASY: u64 = 512_000_000;

/// The rules for the disk that a directory is on.
pub fn policy(root: &Path) -> Vec<Prune> {
    rules(statvfs(root).ok().map(|stat| stat.blocks() * stat.fragment_size()))
}

fn rules(disk: Option<u64>) -> Vec<Prune> {
    // dockerd rounds up to whole gigabytes.
    let share =
        |percent: u64| disk.map_or(0, |total| (total * percent / 100 / (1 << 30) + 1) * 1_000_000_000);
    let reserved = if disk.is_some() { share(10) } else { RESERVED };
    let limits = Prune {
        reserved_space: reserved,
        max_used_space: share(80),
        min_free_space: share(20),
        ..Prune::default()
    };
    #[allow(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of some gigabytes"
    )]
    let easy = (reserved as f64 / 100.0 * EASY_PERCENT).round() as u64;
    vec![
        Prune {
            filters: vec!["type==source.local,type==exec.cachemount,type==source.git.checkout".to_owned()],
            keep_duration: 2 * DAY,
            max_used_space: easy.max(EASY),
            ..Prune::default()
        },
        Prune { keep_duration: 60 * DAY, ..limits.clone() },
        limits.clone(),
        Prune { all: true, ..limits },
    ]
}

/// Tidies, unless that was done a moment ago. What fails is tried again after the next build.
pub fn after_build(engine: &Engine) {
    if !engine.build_cache.is_to_tidy(EVERY) {
        return;
    }
    for rule in policy(&engine.root) {
        match records::prune(engine, &rule) {
            Ok(removed) if removed.is_empty() => {}
            Ok(removed) => tracing::info!(records = removed.len(), "the build cache was tidied"),
            Err(error) => tracing::warn!(%error, "the build cache can't be tidied"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_are_dockerds() {
        let rules = rules(Some(100 << 30));
        let spaces: Vec<_> =
            rules.iter().map(|r| (r.all, r.reserved_space, r.max_used_space, r.min_free_space)).collect();
        let (gb, limits) = (1_000_000_000, |all| (all, 11_000_000_000, 81_000_000_000, 21_000_000_000));
        assert_eq!(spaces[1..], [limits(false), limits(false), limits(true)]);
        assert_eq!(rules[0].max_used_space, 1_519_933_825);
        assert_eq!((rules[0].keep_duration, rules[1].keep_duration), (2 * DAY, 60 * DAY));
        let unknown = super::rules(None);
        assert_eq!((unknown[2].reserved_space, unknown[2].max_used_space), (2 * gb, 0));
        assert_eq!(unknown[0].max_used_space, EASY);
    }
}
