//! Runs a program of the node, such as `iptables-restore`. It may be anything (the node's root may replace it), so time and output are
//! bounded.

use crate::{Error, Result};
use std::{
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

/// A change takes some milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often the end is looked for.
const PAUSE: Duration = Duration::from_micros(500);
/// Most output that is read.
const MAX_OUTPUT: u64 = 4 << 20;

/// Gives `input` to a program and answers what it prints, at most 4 MiB. Waits for its end, at most ten seconds.
pub fn feed(program: &Path, arguments: &[&str], input: &str) -> Result<String> {
    let name = program.file_name().unwrap_or_default().display();
    let failed = |what: &str, e: std::io::Error| Error::new(format!("{what} {name}"), e);
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed("run", e))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (output, errors) = thread::scope(|scope| {
        scope.spawn(move || {
            // A program that does not read its input says why on its own.
            let _closed = stdin.map(|mut stdin| stdin.write_all(input.as_bytes()));
        });
        let output = scope.spawn(move || read(stdout));
        let errors = scope.spawn(move || read(stderr));
        // Ended by force, it closes its ends of the pipes.
        let waited = wait(&mut child);
        (output.join().unwrap_or_default(), waited.map(|ok| (ok, errors.join().unwrap_or_default())))
    });
    match errors {
        Ok((true, _)) => Ok(output),
        Ok((false, errors)) => {
            let why =
                errors.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("no reason given");
            Err(Error::new(format!("{name} failed"), std::io::Error::other(why.to_owned())))
        }
        Err(error) => Err(failed("wait for", error)),
    }
}

fn read(pipe: Option<impl Read>) -> String {
    let mut bytes = Vec::new();
    // What has been read until then counts.
    let _cut = pipe.map(|pipe| pipe.take(MAX_OUTPUT).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

fn wait(child: &mut Child) -> std::io::Result<bool> {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        if Instant::now() > end {
            child.kill()?;
            child.wait()?;
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn input_output_and_refusals() {
        assert_eq!(feed(Path::new("/bin/cat"), &[], "text").unwrap(), "text");
        let refused = feed(Path::new("/bin/sh"), &["-c", "echo ' why' >&2; exit 2"], "").unwrap_err();
        assert_eq!(refused.to_string(), "sh failed: why");
        assert!(
            feed(Path::new("/nonexistent"), &[], "")
                .unwrap_err()
                .to_string()
                .starts_with("run nonexistent: ")
        );
    }
}
