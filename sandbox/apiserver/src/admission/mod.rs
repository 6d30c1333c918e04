//! What is changed or refused in a write after it was authorised and before it is stored.

use crate::authn::User;
use crate::resource::Resource;
use crate::server::Server;
use drydock_apimachinery::Status;
use serde_json::Value;

/// What is about to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// An object comes to be.
    Create,
    /// It changes.
    Update,
    /// It goes.
    Delete,
    /// Somebody connects to it: `exec`, `proxy` and the like.
    Connect,
}

/// What is known of it beside the object.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    /// What is about to happen.
    pub operation: Operation,
    /// To what.
    pub resource: &'a Resource,
    /// Such as `status`; empty: the object itself.
    pub subresource: &'a str,
    /// Empty: none.
    pub namespace: &'a str,
    /// Empty: not known yet.
    pub name: &'a str,
    /// By whom.
    pub user: &'a User,
    /// Nothing may have an effect.
    pub dry_run: bool,
}

/// All plug-ins.
#[derive(Debug, Default)]
pub struct Admission;

impl Admission {
    /// Changes the new object, or refuses it.
    pub async fn mutate(
        &self,
        _server: &Server,
        _context: &Context<'_>,
        _object: &mut Value,
        _old: Option<&Value>,
        _warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        Ok(())
    }

    /// Refuses the new object (null if it goes), or not.
    pub async fn validate(
        &self,
        _server: &Server,
        _context: &Context<'_>,
        _object: &Value,
        _old: Option<&Value>,
        _warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        Ok(())
    }
}
