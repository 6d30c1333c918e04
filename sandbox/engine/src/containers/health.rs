//! Health checks: a program in the container, now and then. Each is an exec and shows as such in the events, as with Docker.

use super::{
    Container,
    model::Healthcheck,
    record::{Health, Phase, Probe, Record},
};
use crate::{
    clock::{Timestamp, go_duration},
    engine::Engine,
    exec::{self, ExecConfig},
};
use std::{sync::Arc, time::Duration};
use tokio::time::{Instant, sleep, timeout};

/// Checks that are remembered.
const KEPT: usize = 5;
/// Bytes of output that are remembered.
const MAX_OUTPUT: usize = 4096;

/// Times that hold where neither image nor request says.
struct Plan {
    argv: Vec<String>,
    interval: Duration,
    timeout: Duration,
    start_period: Duration,
    start_interval: Duration,
    retries: u64,
}

fn plan(record: &Record) -> Option<Plan> {
    let check: &Healthcheck = record.config.healthcheck.as_ref()?;
    let test = check.test.as_deref()?;
    let argv = match test.first()?.as_str() {
        "CMD" => test[1..].to_vec(),
        "CMD-SHELL" => {
            let default = ["/bin/sh".to_string(), "-c".to_string()];
            let shell = record.config.shell.as_deref().filter(|s| !s.is_empty()).unwrap_or(&default);
            shell.iter().cloned().chain([test[1..].join(" ")]).collect()
        }
        _ => return None,
    };
    let or = |nanos: i64, default: u64| match u64::try_from(nanos) {
        Ok(0) | Err(_) => Duration::from_secs(default),
        Ok(nanos) => Duration::from_nanos(nanos),
    };
    (!argv.is_empty()).then(|| Plan {
        argv,
        interval: or(check.interval, 30),
        timeout: or(check.timeout, 30),
        start_period: or(check.start_period, 0),
        start_interval: or(check.start_interval, 5),
        retries: u64::try_from(check.retries).ok().filter(|n| *n > 0).unwrap_or(3),
    })
}

/// What a run begins with.
pub fn initial(record: &Record) -> Option<Health> {
    plan(record)?;
    Some(Health { status: "starting".into(), ..Health::default() })
}

/// Checks a container until its run ends.
pub fn watch(engine: &Arc<Engine>, container: &Arc<Container>) {
    let (plan, started) = {
        let record = container.record();
        let Some(plan) = plan(&record) else { return };
        (plan, record.state.started_at)
    };
    let (engine, container) = (engine.clone(), container.clone());
    let count = container.ends.borrow().count;
    tokio::spawn(async move {
        let mut ends = container.ends.subscribe();
        let over = ends.wait_for(|e| e.count > count || e.removed);
        tokio::select! {
            _ = over => {}
            () = check_on(&engine, &container, &plan, started) => {}
        }
    });
}

/// A run has ended: the check that is under way ends with it.
pub fn stop(_container: &Container) {}

async fn check_on(engine: &Arc<Engine>, container: &Arc<Container>, plan: &Plan, started: Timestamp) {
    loop {
        let starting = Timestamp::now().since(started) < plan.start_period
            && container.record().state.health.as_ref().is_some_and(|h| h.status == "starting");
        sleep(if starting { plan.start_interval.min(plan.interval) } else { plan.interval }).await;
        if container.phase() == Phase::Paused {
            continue;
        }
        let probe = probe(engine, container, plan).await;
        note(engine, container, plan, probe, started);
    }
}

async fn probe(engine: &Arc<Engine>, container: &Arc<Container>, plan: &Plan) -> Probe {
    let start = Timestamp::now();
    let begun = Instant::now();
    let config = ExecConfig {
        cmd: Some(plan.argv.clone()),
        attach_stdout: true,
        attach_stderr: true,
        ..ExecConfig::default()
    };
    let mut printed = Vec::new();
    let ran = timeout(plan.timeout, exec::run(engine, container, config, MAX_OUTPUT, &mut printed)).await;
    let printed = String::from_utf8_lossy(&printed).into_owned();
    let (exit_code, output) = match ran {
        Ok(Ok(code)) => (code, printed),
        Ok(Err(error)) => (-1, error.message),
        Err(_) => (-1, too_slow(plan.timeout, &printed)),
    };
    let _took = begun.elapsed();
    Probe { start, end: Timestamp::now(), exit_code, output }
}

fn too_slow(patience: Duration, printed: &str) -> String {
    let patience = go_duration(patience);
    let printed = if printed.is_empty() { String::new() } else { format!(": {printed}") };
    format!("Health check exceeded timeout ({patience}){printed}")
}

/// Takes a result into account (`handleProbeResult` in `daemon/health.go`).
fn note(engine: &Arc<Engine>, container: &Arc<Container>, plan: &Plan, probe: Probe, started: Timestamp) {
    let mut record = container.record();
    let Some(health) = record.state.health.as_mut() else { return };
    let before = health.status.clone();
    let well = probe.exit_code == 0;
    if well {
        health.failing_streak = 0;
        health.status = "healthy".into();
    } else {
        let in_start = before == "starting" && probe.start.since(started) < plan.start_period;
        if !in_start {
            health.failing_streak += 1;
            if health.failing_streak >= plan.retries {
                health.status = "unhealthy".into();
            }
        }
    }
    health.log.push_back(probe);
    while health.log.len() > KEPT {
        health.log.pop_front();
    }
    let now = health.status.clone();
    if now != before {
        engine.container_event(&record, &format!("health_status: {now}"), &[]);
        drop(record);
        engine.save_soon(container);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_check_is_told_with_what_it_printed() {
        let patience = Duration::from_millis(200);
        assert_eq!(too_slow(patience, ""), "Health check exceeded timeout (200ms)");
        assert_eq!(too_slow(patience, "hi\n"), "Health check exceeded timeout (200ms): hi\n");
    }

    #[test]
    fn the_test_says_what_runs() {
        let with = |test: &[&str]| {
            let mut record = Record::default();
            let test = Some(test.iter().map(|s| (*s).to_string()).collect());
            record.config.healthcheck = Some(Healthcheck { test, retries: 2, ..Healthcheck::default() });
            plan(&record).map(|p| (p.argv, p.retries, p.interval))
        };
        let (argv, retries, interval) = with(&["CMD-SHELL", "exit 1"]).unwrap();
        assert_eq!(
            (argv.join(" ").as_str(), retries, interval),
            ("/bin/sh -c exit 1", 2, Duration::from_secs(30))
        );
        assert_eq!(with(&["CMD", "true"]).unwrap().0, ["true"]);
        assert!(with(&["NONE"]).is_none() && with(&[]).is_none());
    }
}
