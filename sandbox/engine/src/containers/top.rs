//! `docker top`: the node's own `ps`, of which only the container's processes are shown.

use super::Container;
use crate::{
    engine::Engine,
    error::{Error, Result},
};
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
    let pids: HashSet<i32> = engine.groups.processes(&container.id).into_iter().collect();
    let ran = tokio::process::Command::new("ps")
        .args(arguments.split_whitespace())
        .kill_on_drop(true)
        .output()
        .await;
    let output = ran.map_err(|e| Error::internal(format!("ps: {}", crate::error::go_words(&e))))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr);
        return Err(Error::internal(format!("ps: {}", text.lines().next().unwrap_or("exit status 1"))));
    }
    engine.container_event(&container.record(), "top", &[]);
    pick(&String::from_utf8_lossy(&output.stdout), &pids)
}

/// The lines of these processes.
fn pick(text: &str, pids: &HashSet<i32>) -> Result<Value> {
    let mut lines = text.lines();
    let titles: Vec<&str> = lines.next().unwrap_or_default().split_whitespace().collect();
    let Some(at) = titles.iter().position(|t| *t == "PID") else {
        return Err(Error::internal("Couldn't find PID field in ps output"));
    };
    let rows: Vec<Vec<String>> = lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let pid = fields.get(at)?.parse().ok()?;
            if !pids.contains(&pid) {
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
    }
}
