//! Taking names and images away by Docker's rules: `docker rmi` and `docker image prune`. A name goes first; the image goes with its
//! last name unless something needs it; then parents that nobody has named go too.

use super::{
    ChainId, LocalStore,
    disk::Scratch,
    error::{Result, StoreError},
    images::Image,
    names,
};
use crate::{Digest, Reference};
use std::collections::{HashMap, HashSet};

/// Something that is gone, in the order in which it went.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Removal {
    /// An image lost a name (familiar).
    Untagged {
        /// The name.
        name: String,
        /// The image.
        image: Digest,
    },
    /// An image.
    Image(Digest),
    /// A layer.
    Layer(ChainId),
}

/// A container that was made from an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageUser {
    /// The container's id.
    pub container: String,
    /// It runs (or is paused).
    pub running: bool,
}

/// How to remove an image.
#[derive(Clone, Copy)]
pub struct RemoveOptions<'a> {
    /// Also if stopped containers use it or several repositories name it.
    pub force: bool,
    /// Keep parents that nobody has named (`--no-prune`).
    pub keep_parents: bool,
    /// The containers of an image. Called without any lock of the store.
    pub users: &'a dyn Fn(&Digest) -> Vec<ImageUser>,
}

/// What a prune brought.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pruned {
    /// What is gone.
    pub removed: Vec<Removal>,
    /// Bytes of the layers that are gone, as the sizes of images count them: those of the catalogue too.
    pub reclaimed: u64,
}

/// Reasons to keep an image, weakest last.
#[derive(Clone, Copy)]
struct Mask {
    children: bool,
    running: bool,
    names: bool,
    stopped: bool,
}

struct Conflict {
    error: StoreError,
    used: bool,
}

/// Layers that went, with their files, which go when it is dropped.
pub(super) type Garbage = Vec<(ChainId, Vec<Scratch>)>;

impl LocalStore {
    /// Removes a name, or an image by its id, as `docker rmi` does.
    pub fn remove(&self, text: &str, options: RemoveOptions<'_>) -> Result<Vec<Removal>> {
        let mut removed = Vec::new();
        self.remove_into(text, options, &mut removed)?;
        self.save_names()?;
        Ok(removed)
    }

    /// Writes the names that went while the disk was full. If it still is, the next change of a name writes them: what is removed
    /// must go from a full disk.
    fn save_names(&self) -> Result<()> {
        match self.state().names.save_again(self.disk()) {
            Err(error) if error.is_full() => Ok(()),
            saved => saved,
        }
    }

    fn remove_into(&self, text: &str, options: RemoveOptions<'_>, removed: &mut Vec<Removal>) -> Result<()> {
        let image = self.find(text)?;
        let id = &image.id;
        let references = self.state().names.of(id);
        if is_id_prefix(id, text) {
            // One name at most and all in one repository: they go with the image.
            if is_single(&references) {
                let mask = Mask { children: true, running: true, names: false, stopped: !options.force };
                if let Some(conflict) = self.conflict(id, mask, options) {
                    return Err(conflict.error);
                }
                self.untag(&references, id, removed)?;
            }
            return self.delete(id, options, false, removed);
        }
        if !options.force
            && is_single(&references)
            && let Some(user) = (options.users)(id).first()
        {
            return Err(StoreError::Conflict(format!(
                "conflict: unable to remove repository reference \"{text}\" (must force) - container {} is using its referenced image {}",
                short(&user.container),
                short(id.hex()),
            )));
        }
        let name = names::key(&Reference::parse(text)?);
        self.untag(std::slice::from_ref(&name), id, removed)?;
        let mut left = self.state().names.of(id);
        let same = |other: &Reference| other.name() == name.name();
        if name.digest().is_none() && !left.iter().any(|other| other.digest().is_none() && same(other)) {
            // Digests of a repository without a tag in it say nothing any more.
            let (stale, others): (Vec<_>, Vec<_>) =
                left.into_iter().partition(|other| other.digest().is_some() && same(other));
            self.untag(&stale, id, removed)?;
            left = others;
        }
        if left.is_empty() { self.delete(id, options, true, removed) } else { Ok(()) }
    }

    /// Deletes an image if nothing needs it; quietly: a conflict is no error unless nobody could find the image again.
    fn delete(
        &self,
        id: &Digest,
        options: RemoveOptions<'_>,
        quiet: bool,
        removed: &mut Vec<Removal>,
    ) -> Result<()> {
        let soft = !options.force;
        let mask = Mask { children: true, running: true, names: soft, stopped: soft };
        if let Some(conflict) = self.conflict(id, mask, options) {
            let state = self.state();
            let dangling = state.names.of(id).is_empty() && state.children(id).is_empty();
            return if quiet && (!dangling || conflict.used) { Ok(()) } else { Err(conflict.error) };
        }
        let references = self.state().names.of(id);
        self.untag(&references, id, removed)?;
        let (parent, garbage): (Option<Digest>, Garbage) = {
            let mut state = self.state();
            let parent =
                state.images.get(id).and_then(|record| state.image(id, record).shown_parent().cloned());
            (parent, state.take_image(self.disk(), id)?)
        };
        removed.push(Removal::Image(id.clone()));
        removed.extend(garbage.iter().map(|(chain, _)| Removal::Layer(chain.clone())));
        drop(garbage);
        match parent.filter(|p| !options.keep_parents && self.get(p).is_ok()) {
            Some(parent) => self.delete(&parent, RemoveOptions { force: false, ..options }, true, removed),
            None => Ok(()),
        }
    }

    fn untag(&self, names: &[Reference], id: &Digest, removed: &mut Vec<Removal>) -> Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        self.state().names.remove(self.disk(), names)?;
        removed
            .extend(names.iter().map(|name| Removal::Untagged { name: name.familiar(), image: id.clone() }));
        Ok(())
    }

    fn conflict(&self, id: &Digest, mask: Mask, options: RemoveOptions<'_>) -> Option<Conflict> {
        let users = (options.users)(id);
        let conflict = |how: &str, used: bool, why: String| {
            let error = StoreError::Conflict(format!(
                "conflict: unable to delete {} ({how} be forced) - {why}",
                short(id.hex())
            ));
            Some(Conflict { error, used })
        };
        if mask.children && !self.children(id).is_empty() {
            return conflict("cannot", false, "image has dependent child images".into());
        }
        if let Some(user) = users.iter().find(|u| mask.running && u.running) {
            let why = format!("image is being used by running container {}", short(&user.container));
            return conflict("cannot", true, why);
        }
        if mask.names && !self.state().names.of(id).is_empty() {
            return conflict("must", false, "image is referenced in multiple repositories".into());
        }
        if let Some(user) = users.iter().find(|u| mask.stopped && !u.running) {
            let why = format!("image is being used by stopped container {}", short(&user.container));
            return conflict("must", true, why);
        }
        None
    }

    /// Removes images that no container uses: those without a name, or all of them. `matches` is the user's filter.
    pub fn prune(
        &self,
        dangling_only: bool,
        matches: &dyn Fn(&Image) -> bool,
        users: &dyn Fn(&Digest) -> Vec<ImageUser>,
    ) -> Result<Pruned> {
        // Layers of the catalogue count too, as they do in the sizes of images.
        let sizes: HashMap<ChainId, u64> =
            self.layers().into_iter().map(|layer| (layer.chain, layer.size)).collect();
        let options = RemoveOptions { force: false, keep_parents: false, users };
        let mut pruned = Pruned::default();
        for image in self.images() {
            let references = self.state().names.of(&image.id);
            let children = self.children(&image.id);
            if (!children.is_empty() && (dangling_only || references.is_empty())) || !matches(&image) {
                continue;
            }
            let targets: Vec<_> = if references.is_empty() {
                vec![image.id.hex().to_owned()]
            } else if !dangling_only || !image.is_tagged() {
                references.iter().map(ToString::to_string).collect()
            } else {
                continue;
            };
            for target in targets {
                match self.remove_into(&target, options, &mut pruned.removed) {
                    // In use, or gone with one before.
                    Err(StoreError::Conflict(_) | StoreError::NotFound(_)) | Ok(()) => {}
                    Err(e) => return Err(e),
                }
            }
        }
        self.save_names()?;
        let gone: HashSet<_> = pruned.removed.iter().collect();
        let freed = |(chain, _): &(&ChainId, &u64)| gone.contains(&Removal::Layer((*chain).clone()));
        pruned.reclaimed = sizes.iter().filter(freed).map(|(_, size)| size).sum();
        Ok(pruned)
    }
}

/// At most one name with a tag, and all names in one repository.
fn is_single(references: &[Reference]) -> bool {
    if references.len() <= 1 {
        return references.len() == 1;
    }
    let tagged = references.iter().filter(|r| r.digest().is_none()).count();
    tagged <= 1 && references.iter().all(|r| r.name() == references[0].name())
}

fn is_id_prefix(id: &Digest, text: &str) -> bool {
    id.hex().starts_with(text) || id.to_string().starts_with(text)
}

/// The first 12 characters of an id.
fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}
