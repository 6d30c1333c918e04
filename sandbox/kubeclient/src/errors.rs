//! What an error of the API server means to a controller. Called wherever a failed request has an expected cause.

use kube::Error;

/// The object is gone (404).
pub fn is_not_found(error: &Error) -> bool {
    code(error) == Some(404)
}

/// What a request gave; none if its object is gone (404): most writes of a controller have nothing to do then.
pub fn unless_gone<T>(result: Result<T, Error>) -> Result<Option<T>, Error> {
    match result {
        Ok(done) => Ok(Some(done)),
        Err(error) if is_not_found(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Somebody else changed the object meanwhile (409, reason Conflict).
pub fn is_conflict(error: &Error) -> bool {
    reason(error) == Some("Conflict")
}

/// The object is there already (409, reason AlreadyExists).
pub fn is_already_exists(error: &Error) -> bool {
    reason(error) == Some("AlreadyExists")
}

/// The request is not allowed (403), by rights or by admission.
pub fn is_forbidden(error: &Error) -> bool {
    code(error) == Some(403)
}

/// The object breaks a rule of its kind (422).
pub fn is_invalid(error: &Error) -> bool {
    code(error) == Some(422)
}

/// The namespace of the object is being deleted: creating in it is pointless (`apierrors.HasStatusCause(NamespaceTerminatingCause)`).
pub fn is_namespace_terminating(error: &Error) -> bool {
    let Error::Api(status) = error else { return false };
    status
        .details
        .as_ref()
        .is_some_and(|details| details.causes.iter().any(|cause| cause.reason == "NamespaceTerminating"))
}

/// The revision that was asked for is no longer kept (410), or reason Expired.
pub fn is_expired(error: &Error) -> bool {
    code(error) == Some(410) || reason(error) == Some("Expired")
}

/// True if the API server answered at all; else the connection is at fault.
pub fn is_answer(error: &Error) -> bool {
    matches!(error, Error::Api(_))
}

fn code(error: &Error) -> Option<u16> {
    match error {
        Error::Api(status) => Some(status.code),
        _ => None,
    }
}

fn reason(error: &Error) -> Option<&str> {
    match error {
        Error::Api(status) => Some(&status.reason),
        _ => None,
    }
}
