//! Why a container could not be started, in the words that clients know: those of runc, and what containerd and dockerd put around
//! them.

use super::record::Record;
use crate::error::Error;
use axum::http::StatusCode;
use drydock_runtime::container::messages::{Failure, FailureKind};

/// Of what the container's networks are told.
pub fn network_failed(error: impl Into<Error>) -> Error {
    let error = error.into();
    Error::new(error.status, format!("failed to set up container networking: {}", error.message))
}

/// A refusal in the words that runc and its callers put around it.
pub fn create_failed(error: Error) -> Error {
    if error.message.starts_with("failed to create task") {
        return error;
    }
    of_dockerd(
        StatusCode::INTERNAL_SERVER_ERROR,
        wrapped(&format!("unable to start container process: {}", error.message)),
    )
}

/// What dockerd thinks of a refusal by its words (`daemon/errors.go`, `translateContainerdStartErr`).
fn of_dockerd(status: StatusCode, message: String) -> Error {
    if message.contains(NOT_A_DIRECTORY) {
        return Error::new(StatusCode::BAD_REQUEST, format!("{message}: {OF_ANOTHER_KIND}"));
    }
    Error::new(status, message)
}

/// `ENOTDIR` in Go's words.
const NOT_A_DIRECTORY: &str = "not a directory";

const OF_ANOTHER_KIND: &str = "Are you trying to mount a directory onto a file (or vice-versa)? \
                               Check if the specified host path exists and is the expected type";

/// What dockerd and containerd put before runc's own words.
const BEFORE_RUNC: &str = "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: ";

/// What runc puts before the words of its child.
pub const RUNC_INIT: &str = "unable to start container process: error during container init: ";

/// What runc does not take.
pub fn refused_by_runc(why: &str) -> Error {
    Error::internal(wrapped(why))
}

fn wrapped(why: &str) -> String {
    format!("{BEFORE_RUNC}{why}: unknown")
}

/// What runc itself says in a refusal, if it is runc that refuses.
pub fn words_of_runc(message: &str) -> Option<&str> {
    message.strip_prefix(BEFORE_RUNC)?.strip_suffix(": unknown")
}

/// dockerd looks users up itself, before there is a runc that could put words around it. `None`: it is something else that failed.
pub fn unknown_user(message: &str, user: &str, groups: &[String]) -> Option<String> {
    let starts = ["unable to find user ", "unable to find group ", "uids and gids must be in range "];
    if !starts.iter().any(|start| message.starts_with(start)) {
        return None;
    }
    // A group of `--group-add` is told with a capital.
    let group = message.strip_prefix("unable to find group ").and_then(|rest| rest.split(": ").next());
    let of_user = user.split_once(':').map(|(_, group)| group);
    match group {
        Some(group) if of_user != Some(group) && groups.iter().any(|added| added == group) => {
            Some(message.replacen('u', "U", 1))
        }
        _ => Some(message.to_owned()),
    }
}

/// The child could not become the program.
pub fn start_failed(failure: &Failure, record: &Record) -> Error {
    let groups = record.host.group_add.as_deref().unwrap_or_default();
    if let Some(text) = unknown_user(&failure.message, &record.config.user, groups) {
        return Error::internal(text);
    }
    let message = wrapped(&format!(
        "unable to start container process: error during container init: {}",
        failure.message
    ));
    let status = match failure.kind {
        FailureKind::NotFound | FailureKind::NotExecutable => StatusCode::BAD_REQUEST,
        FailureKind::Other => StatusCode::INTERNAL_SERVER_ERROR,
    };
    of_dockerd(status, message)
}

/// The exit status that Docker notes for a container that could not be started (`daemon/errors.go`).
pub fn code_of(message: &str) -> i32 {
    let any = |texts: &[&str]| texts.iter().any(|t| message.contains(t));
    if !message.contains("OCI runtime create failed") {
        return 128;
    }
    if any(&[
        NOT_A_DIRECTORY,
        "executable file not found",
        "no such file or directory",
        "system cannot find the file specified",
    ]) {
        127
    } else if any(&["permission denied", "is a directory", "exec format error"]) {
        126
    } else {
        128
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_told_as_docker_tells_them() {
        let failure = Failure {
            kind: FailureKind::NotFound,
            message: "exec: \"x\": executable file not found in $PATH".into(),
        };
        let error = start_failed(&failure, &Record::default());
        assert_eq!(
            error.message,
            "failed to create task for container: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: \"x\": executable file not found in $PATH: unknown"
        );
        assert_eq!((error.status, code_of(&error.message)), (StatusCode::BAD_REQUEST, 127));
        assert_eq!(
            words_of_runc(&error.message),
            Some(
                "unable to start container process: error during container init: exec: \"x\": executable file not found in $PATH"
            )
        );
        assert_eq!(code_of("failed to set up container networking: network x not found"), 128);
        let wrong = "error mounting \"/a\" to rootfs at \"/b\": mount src=/a, dst=/b: not a directory";
        let failure = Failure { kind: FailureKind::Other, message: wrong.into() };
        let error = start_failed(&failure, &Record::default());
        assert!(error.message.ends_with("not a directory: unknown: Are you trying to mount a directory onto a file (or vice-versa)? Check if the specified host path exists and is the expected type"));
        assert_eq!((error.status, code_of(&error.message)), (StatusCode::BAD_REQUEST, 127));
    }

    #[test]
    fn unknown_users_are_told_without_runcs_words() {
        let mut record = Record::default();
        record.config.user = "nope:staff".into();
        record.host.group_add = Some(vec!["wheel".into()]);
        let told = |message: &str| {
            let failure = Failure { kind: FailureKind::Other, message: message.into() };
            let error = start_failed(&failure, &record);
            assert_eq!(code_of(&error.message), 128);
            error.message
        };
        for text in [
            "unable to find user nope: no matching entries in passwd file",
            "unable to find group staff: no matching entries in group file",
        ] {
            assert_eq!(told(text), text);
        }
        assert_eq!(
            told("unable to find group wheel: no matching entries in group file"),
            "Unable to find group wheel: no matching entries in group file"
        );
    }
}
