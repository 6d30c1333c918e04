//! `docker top`: the node's own `ps`, of which only the container's processes are shown (moby `daemon/top_unix.go`).

use super::Container;
use crate::{
    engine::Engine,
    error::{Error, Result},
};
use drydock_go::io_text;
use serde_json::{Value, json};
use std::collections::HashSet;

/// `GET /containers/{id}/top`
pub async fn top(engine: &Engine, container: &Container, arguments: &str) -> Result<Value> {
    container.running()?;
    if container.phase() == super::record::Phase::Restarting {
        return Err(Error::conflict(format!(
            "Container {} is restarting, wait until the container is running",
            container.id
        )));
    }
    let arguments = if arguments.is_empty() { "-ef" } else { arguments };
    let pids = engine.groups.processes(&container.id);
    let arguments: Vec<&str> = arguments.split_ascii_whitespace().collect();
    let numbers: Vec<String> = pids.iter().map(ToString::to_string).collect();
    let only_those = format!("-q{}", numbers.join(","));
    let chosen = [&[only_those.as_str()], arguments.as_slice()].concat();
    let text = match ps(&chosen).await {
        Ok(text) => text,
        // Some options can't be used together with -q: then all are listed.
        Err(_) => ps(&arguments).await?,
    };
    engine.container_event(&container.record(), "top", &[]);
    pick(&text, &pids.into_iter().collect())
}

async fn ps(arguments: &[&str]) -> Result<String> {
    let ran = tokio::process::Command::new("ps").args(arguments).kill_on_drop(true).output().await;
    let output = ran.map_err(|e| Error::internal(format!("ps: {}", io_text(&e))))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        let why = text.lines().next().filter(|line| !line.is_empty()).unwrap_or("exit status 1");
        return Err(Error::internal(format!("ps: {why}")));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The lines of these processes.
fn pick(text: &str, pids: &HashSet<i32>) -> Result<Value> {
    let mut lines = text.lines();
    let titles: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let Some(at) = titles.iter().position(|t| *t == "PID") else {
        return Err(Error::internal("Couldn't find PID field in ps output"));
    };
    // A thread's line, with no number of a process, is of the process above it.
    let mut ours = false;
    let rows: Vec<Vec<String>> = lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let pid = *fields.get(at)?;
            ours = if pid == "-" { ours } else { pid.parse().is_ok_and(|pid| pids.contains(&pid)) };
            if !ours {
                return None;
            }
            let mut row: Vec<String> = fields.iter().take(titles.len()).map(|f| (*f).to_string()).collect();
            if fields.len() > titles.len() {
                // The last column is the command, which has spaces.
                *row.last_mut()? = fields[titles.len() - 1..].join(" ");
            }
            Some(row)
        })
        .collect();
    Ok(json!({"Processes": rows, "Titles": titles}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_the_recorded_answer() {
        let text = "UID PID PPID C STIME TTY TIME CMD\nroot 1 0 0 14:00 ? 00:00:00 init\nroot 8298 8271 0 14:16 ? 00:00:00 sleep 1000\n";
        let recorded: Value =
            serde_json::from_str(include_str!("../../tests/recorded/container_top.json")).unwrap();
        assert_eq!(pick(text, &HashSet::from([8298])).unwrap(), recorded);
        assert!(pick("A B\n1 2\n", &HashSet::new()).is_err());
        let threads = "PID LWP CMD\n1 - a\n- 1 -\n2 - b\n- 2 -\n- 3 -\n";
        let rows = json!([["2", "-", "b"], ["-", "2", "-"], ["-", "3", "-"]]);
        assert_eq!(pick(threads, &HashSet::from([2])).unwrap()["Processes"], rows);
    }
}
