//! How long it takes from the request for a session to its prompt at the server, and where the time goes: for who comes when nobody
//! came for a moment, whose session was kept ready, and for who comes right after another.

use crate::{
    end,
    table::{Table, at_most, median, ms, quantile},
};
use drydock_e2e::{Server, until};
use drydock_protocol::{
    api::{Created, Session},
    pipe::Step,
};
use hyper::Method;
use std::time::{Duration, Instant};

const ROUNDS: usize = 30;
const WARM_UP: usize = 3;
/// Nodes, and whether it was quiet before.
const KINDS: [(u8, bool); 4] = [(1, true), (3, true), (1, false), (3, false)];
/// Quiet for long enough that a session is kept ready.
const MOMENT: Duration = Duration::from_millis(250);

/// What was measured of one session.
struct Round {
    ready: f64,
    wall: f64,
    trace: Vec<Step>,
}

/// Prints both tables.
pub async fn run() {
    let server = crate::serve();
    let mut rounds: [Vec<Round>; 4] = Default::default();
    for i in 0..WARM_UP + ROUNDS {
        for ((nodes, quiet), list) in KINDS.into_iter().zip(&mut rounds) {
            if quiet {
                tokio::time::sleep(MOMENT).await;
            } else {
                // It takes the session that is kept ready.
                measure(&server, 1).await;
            }
            let round = measure(&server, nodes).await;
            if i >= WARM_UP {
                list.push(round);
            }
        }
    }
    drop(server);
    totals(&rounds);
    for (kind, list) in KINDS.into_iter().zip(&mut rounds) {
        list.sort_unstable_by(|a, b| a.ready.total_cmp(&b.ready));
        steps(&name(kind), &list[list.len() / 2]);
    }
}

async fn measure(server: &Server, nodes: u8) -> Round {
    let began = Instant::now();
    let session: Created = crate::create(server, nodes).await;
    let wall = ms(began.elapsed());
    // The steps are written down after the answer.
    until("the steps of the start", async || !steps_of(server, &session).await.is_empty()).await;
    let trace = steps_of(server, &session).await;
    end(server, session.id.as_str()).await;
    Round { ready: session.ready_ms, wall, trace }
}

async fn steps_of(server: &Server, session: &Created) -> Vec<Step> {
    let path = format!("/sessions/{}", session.id);
    server.operate(Method::GET, &path, None).await.has(200).json::<Session>().trace
}

fn name((nodes, quiet): (u8, bool)) -> String {
    let nodes = if nodes == 1 { "one node" } else { "three nodes" };
    if quiet { nodes.into() } else { format!("{nodes}, right after another") }
}

fn totals(rounds: &[Vec<Round>; 4]) {
    let mut table = Table::new(
        format!("start: request to prompt, ms, {ROUNDS} rounds"),
        &["", "median", "p90", "least", "at the client", "goal", "met"],
    );
    let ready = rounds.each_ref().map(|list| list.iter().map(|r| r.ready).collect::<Vec<_>>());
    for (i, kind) in KINDS.into_iter().enumerate() {
        let wall: Vec<_> = rounds[i].iter().map(|r| r.wall).collect();
        // Three nodes are judged by the ratio.
        let (goal, met) = match kind.0 {
            1 => ("<= 50".into(), at_most(median(&ready[i]), 50.0)),
            _ => (String::new(), String::new()),
        };
        table.row([
            name(kind),
            format!("{:.1}", median(&ready[i])),
            format!("{:.1}", quantile(&ready[i], 0.9)),
            format!("{:.1}", quantile(&ready[i], 0.0)),
            format!("{:.1}", median(&wall)),
            goal,
            met,
        ]);
    }
    let none = String::new;
    for (one, three) in [(0, 1), (2, 3)] {
        let ratio = median(&ready[three]) / median(&ready[one]);
        table.row([
            format!("three / {}", name(KINDS[one])),
            format!("{ratio:.2}x"),
            none(),
            none(),
            none(),
            "<= 2x".into(),
            at_most(ratio, 2.0),
        ]);
    }
    table.print();
}

fn steps(kind: &str, round: &Round) {
    let mut table = Table::new(
        format!("start: where the time goes, {kind}, the median run ({:.1} ms)", round.ready),
        &["step", "begins at ms", "takes ms"],
    );
    let mut trace = round.trace.clone();
    trace.sort_by_key(|s| s.start_micros);
    for step in trace {
        let milli = |micros: u64| format!("{:.2}", micros as f64 / 1000.0);
        table.row([step.name, milli(step.start_micros), milli(step.micros)]);
    }
    table.print();
}
