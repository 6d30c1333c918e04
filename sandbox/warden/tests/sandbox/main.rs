//! The sandbox as a whole: a real warden, real sessions, real nodes; only the session process is a small one of this
//! test (`agent.rs`), which runs the commands that a test asks for. Needs root and the node image (`DRYDOCK_IMAGES`).

mod agent;
mod clients;
mod containers;
mod egress;
mod engine;
mod host;
mod leaks;
mod nodes;
mod ready;
mod walls;

use libtest_mimic::{Arguments, Trial};

fn main() {
    let mut args = std::env::args().skip(1);
    if args.next().as_deref() == Some("warden") {
        host::be_the_warden(args.next().expect("state directory").into());
        return;
    }
    let mut args = Arguments::from_args();
    // Sessions of all tests together would only wait for each other on two cores; and one test counts what is on the host.
    args.test_threads = Some(1);
    let tests: Vec<Trial> = [
        nodes::tests(),
        containers::tests(),
        walls::tests(),
        egress::tests(),
        leaks::tests(),
        ready::tests(),
        clients::tests(),
    ]
    .into_iter()
    .flatten()
    .collect();
    libtest_mimic::run(&args, tests).exit();
}
