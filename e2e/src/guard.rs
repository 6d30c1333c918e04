//! Cleans up after a test process that was killed before its fixtures could. A guard is a small shell that waits for
//! the end of its standard input, which is a pipe from this process, and then runs a script. Fixtures that end in
//! the ordinary way let their guard go without running it.

use std::{
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

/// A script that runs if this process dies.
#[derive(Debug)]
pub struct Guard(Child);

impl Guard {
    /// `script` runs with `arguments` as `$1`, `$2`, … if this process ends before the guard is dropped.
    pub fn new(script: &str, arguments: &[&str]) -> Self {
        let script = format!("read -r _; {script}");
        let child = Command::new("/bin/sh")
            .args(["-c", &script, "guard"])
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in the terminal ends the tests; the guard has work to do then.
            .process_group(0)
            .spawn()
            .expect("/bin/sh can be started");
        Self(child)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // Killed before its input ends. It may have ended by itself already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}
