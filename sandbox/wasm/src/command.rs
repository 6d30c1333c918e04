//! Commands: a core module with `_start` (WASI preview 1) or a component of the world `wasi:cli/command` (preview 2). They get what a
//! program in the container has: arguments, environment, the three streams, the container's root as `/`, and its network.

use wasmtime::{
    Linker, Module, Result, Store,
    component::{self, Component, ResourceTable},
};
use wasmtime_wasi::{
    FsPerms, I32Exit, WasiCtx, WasiCtxBuilder, WasiCtxView, WasiView, p1::WasiP1Ctx, p2::bindings::Command,
};
use wasmtime_wasi_http::{WasiHttpCtx, WasiHttpCtxView, WasiHttpView};

/// What a component has of the world.
pub struct World {
    wasi: WasiCtx,
    http: WasiHttpCtx,
    table: ResourceTable,
}

impl World {
    /// For one instance.
    pub fn new(words: &[String]) -> Result<Self> {
        Ok(Self { wasi: context(words)?.build(), http: WasiHttpCtx::new(), table: ResourceTable::new() })
    }
}

impl WasiView for World {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        WasiCtxView { ctx: &mut self.wasi, table: &mut self.table }
    }
}

impl WasiHttpView for World {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        WasiHttpCtxView { ctx: &mut self.http, table: &mut self.table, hooks: Default::default() }
    }
}

/// Everything that the process itself may use: what it must not, its container keeps from it.
fn context(words: &[String]) -> Result<WasiCtxBuilder> {
    let mut context = WasiCtxBuilder::new();
    let text = |text: std::ffi::OsString| text.to_string_lossy().into_owned();
    for (name, value) in std::env::vars_os() {
        context.env(text(name), text(value));
    }
    context
        .args(words)
        .inherit_stdio()
        .inherit_network()
        .allow_ip_name_lookup(true)
        // One program, one thread: nothing else waits while it reads a file.
        .allow_blocking_current_thread(true)
        .preopened_dir("/", "/", FsPerms::ReadWrite)?;
    Ok(context)
}

/// Runs a module and returns its exit status.
pub async fn module(module: &Module, words: &[String]) -> Result<u8> {
    let mut linker: Linker<WasiP1Ctx> = Linker::new(module.engine());
    wasmtime_wasi::p1::add_to_linker_async(&mut linker, |context| context)?;
    let mut store = Store::new(module.engine(), context(words)?.build_p1());
    let run = async {
        linker.module_async(&mut store, "", module).await?;
        let start = linker.get_default(&mut store, "")?.typed::<(), ()>(&store)?;
        start.call_async(&mut store, ()).await
    };
    status(run.await.map(Ok))
}

/// Runs a component and returns its exit status.
pub async fn component(component: &Component, words: &[String]) -> Result<u8> {
    let mut store = Store::new(component.engine(), World::new(words)?);
    let linker = linker(component)?;
    let run = async {
        let command = Command::instantiate_async(&mut store, component, &linker).await?;
        command.wasi_cli_run().call_run(&mut store).await
    };
    status(run.await)
}

/// Everything that a component may import.
pub fn linker(component: &Component) -> Result<component::Linker<World>> {
    let mut linker = component::Linker::new(component.engine());
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    Ok(linker)
}

fn status(ended: Result<std::result::Result<(), ()>>) -> Result<u8> {
    match ended {
        Ok(Ok(())) => Ok(0),
        Ok(Err(())) => Ok(1),
        // As exit(3): the low eight bits count.
        Err(error) => match error.downcast_ref::<I32Exit>() {
            Some(I32Exit(status)) => Ok(status.to_le_bytes()[0]),
            None => Err(error),
        },
    }
}
