//! The program in the images of the control plane: etcd, kube-apiserver, kube-scheduler, kube-controller-manager. Which of them it is
//! says the name that it was started by, or else the first argument. Each runs on one thread: a component that is idle costs next to
//! nothing.

mod apiserver;
mod controller_manager;
mod etcd;
mod flags;
mod healthz;
mod rest;
mod scheduler;
mod zap;

use clap::Parser;
use drydock_kubeclient::Klog;
use drydock_kubeclient::crash::panics_end_the_process;
use futures_util::future::BoxFuture;
use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use zap::Zap;

/// From which `-v` on more is told ("Debug level verbosity" of upstream's conventions).
const DEBUG: u8 = 4;

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    let usual = if flags::verbosity(&args) >= DEBUG { "debug" } else { "info" };
    let name = |arg: &OsString| Path::new(arg).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let called = args.first().map(name).unwrap_or_default();
    let component = if is_component(&called) {
        called
    } else {
        if !args.is_empty() {
            args.remove(0);
        }
        args.first().map(name).unwrap_or_default()
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_not_set| tracing_subscriber::EnvFilter::new(usual));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    match &*component {
        "etcd" => log.event_format(Zap).init(),
        _ => log.event_format(Klog).init(),
    }
    // Of a request that panics the API server itself tells; everything else that does leaves work undone.
    panics_end_the_process(drydock_apiserver::http::contain::is_contained);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(async {
            tokio::spawn(rest::give_back());
            run(&component, args).await
        }),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = told(&error), "command failed");
            ExitCode::FAILURE
        }
    }
}

/// An error with its causes, but for those of which it tells itself.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |text, cause| match cause.to_string() {
        cause if text.ends_with(&cause) => text,
        cause if text.is_empty() => cause,
        cause => format!("{text}: {cause}"),
    })
}

/// What the program can be.
const COMPONENTS: [&str; 4] = ["etcd", "kube-apiserver", "kube-scheduler", "kube-controller-manager"];

fn is_component(name: &str) -> bool {
    COMPONENTS.contains(&name)
}

async fn run(component: &str, args: Vec<OsString>) -> anyhow::Result<()> {
    match component {
        "etcd" => etcd::run(etcd::Command::parse_from(args), terminated()?).await,
        "kube-apiserver" => apiserver::run(flags::parse(component, args), terminated()?).await,
        "kube-scheduler" => scheduler::run(flags::parse(component, args), terminated()?).await,
        "kube-controller-manager" => {
            controller_manager::run(flags::parse(component, args), terminated()?).await
        }
        _ => anyhow::bail!("{component:?} is none of {}", COMPONENTS.join(", ")),
    }
}

/// Done when the process is asked to end.
fn terminated() -> anyhow::Result<BoxFuture<'static, ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(Box::pin(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cause_is_told_twice() {
        let inner = anyhow::anyhow!("no such file").context("open /x: no such file").context("command");
        assert_eq!(told(&inner), "command: open /x: no such file");
    }
}
