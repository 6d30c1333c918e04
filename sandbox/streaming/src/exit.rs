//! How a remote command ends for its client: a status on the error channel, then the end of the connection. Called once by whoever
//! ran the command, after all output was written (kubelet `pkg/kubelet/cri/streaming/remotecommand/{exec,attach}.go`).

use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};

use crate::pipe::Outgoing;

/// A client that does not take its last bytes is not waited for any longer.
const LINGER: Duration = Duration::from_secs(10);

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It ran and said 0 (or there was nothing to say: attach).
    Success,
    /// It ran and said something else.
    ExitCode(i32),
    /// It could not be run.
    Failure {
        /// What the client prints.
        message: String,
    },
}

impl Outcome {
    /// `metav1.Status`, as versions 4 and 5 want it.
    fn status(&self) -> Value {
        match self {
            Outcome::Success => json!({"metadata": {}, "status": "Success"}),
            Outcome::ExitCode(code) => {
                json!({"metadata": {}, "status": "Failure", "message": self.message(), "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]}})
            }
            Outcome::Failure { message } => {
                json!({"metadata": {}, "status": "Failure", "message": self.message(),
                "reason": "InternalError", "details": {"causes": [{"message": message}]}, "code": 500})
            }
        }
    }

    fn message(&self) -> String {
        match self {
            Outcome::Success => String::new(),
            Outcome::ExitCode(code) => {
                format!("command terminated with non-zero exit code: exit status {code}")
            }
            // `apierrors.NewInternalError`.
            Outcome::Failure { message } => format!("Internal error occurred: {message}"),
        }
    }

    /// Versions before 4 get the bare text of a failure.
    pub(crate) fn bytes(&self, version: u8) -> Bytes {
        if version >= 4 { Bytes::from(self.status().to_string()) } else { Bytes::from(self.message()) }
    }
}

/// The way to tell the client how its command ended.
#[derive(Debug)]
pub struct Exit {
    /// The error channel or stream.
    pub(crate) stream: u32,
    pub(crate) version: u8,
    pub(crate) queue: mpsc::Sender<Outgoing>,
    /// Its other end goes with the connection.
    pub(crate) connection: watch::Receiver<()>,
}

impl Exit {
    /// Waits until the client is gone.
    pub async fn disconnected(&mut self) {
        while self.connection.changed().await.is_ok() {}
    }

    /// Tells the outcome and ends the connection. Everything written to the outputs before goes out before it.
    pub async fn finish(mut self, outcome: Outcome) {
        let last = [
            Outgoing::Data(self.stream, outcome.bytes(self.version)),
            Outgoing::End(self.stream),
            Outgoing::Close,
        ];
        let send = async {
            for item in last {
                // The client is gone: there is nobody to tell.
                if self.queue.send(item).await.is_err() {
                    return;
                }
            }
            while self.connection.changed().await.is_ok() {}
        };
        let _ = tokio::time::timeout(LINGER, send).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_written_as_each_version_wants_them() {
        let text = |outcome: Outcome, version| String::from_utf8(outcome.bytes(version).to_vec()).unwrap();
        assert_eq!(text(Outcome::Success, 4), r#"{"metadata":{},"status":"Success"}"#);
        assert_eq!(text(Outcome::Success, 3), "");
        let status: Value = serde_json::from_str(&text(Outcome::ExitCode(3), 5)).unwrap();
        assert_eq!(
            (&status["reason"], &status["details"]["causes"][0]["message"]),
            (&json!("NonZeroExitCode"), &json!("3"))
        );
        assert_eq!(
            text(Outcome::ExitCode(3), 1),
            "command terminated with non-zero exit code: exit status 3"
        );
        let failure = Outcome::Failure { message: "no such container".into() };
        assert_eq!(text(failure, 2), "Internal error occurred: no such container");
    }
}
