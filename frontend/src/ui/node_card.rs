//! One node: its state and figures, its ports, what can be done with it.

use super::parts::{each, flag, on, text, when};
use super::{
    confirm_button::ConfirmButton,
    icon::{self, Icon},
    usage_chart::UsageChart,
};
use crate::{logic::units, store::use_app};
use drydock_protocol::{
    NodeName,
    state::{Node, Port, Power},
};
use leptos::prelude::*;

/// The card.
#[component]
pub fn NodeCard(name: NodeName) -> impl IntoView {
    let session = use_app().session;
    let node = Memo::new(move |_| session.state.with(|s| s.nodes.iter().find(|n| n.name == name).cloned()));
    let with = move |read: fn(&Node) -> String| move || node.with(|n| n.as_ref().map(read).unwrap_or_default());
    let power = move || node.with(|n| n.as_ref().map_or(Power::Off, |n| n.power));
    let (state, words) = (
        move || match power() {
            Power::Starting => "starting",
            Power::On => "on",
            Power::Off => "off",
        },
        with(|n| match n.power {
            Power::Starting => "starting".into(),
            Power::On => "on".into(),
            Power::Off => "switched off".into(),
        }),
    );
    let cpu = with(|n| n.usage.map_or("–".into(), |u| units::cpu(u.cpu_millis)));
    let memory = with(|n| n.usage.map_or("–".into(), |u| units::bytes(u.memory)));
    let address = with(|n| n.address.clone());
    let copy_address = move |_| {
        let address = node.with_untracked(|n| n.as_ref().map(|n| n.address.clone()));
        session.copy(address.unwrap_or_default(), Some("The address is copied."));
    };
    view! {
        <li class="node" data-testid=format!("node-{name}") data-power=text(state)>
            <div class="node-head">
                <span class="dot" aria-hidden="true"></span>
                <h3>{name.to_string()}</h3>
                <span class="node-power">{text(words)}</span>
                <NodeButtons name power=Signal::derive(power)/>
            </div>
            <dl class="figures">
                <div>
                    <dt>"Address"</dt>
                    <dd>
                        <button class="link" title="Copy the address" data-testid=format!("node-address-{name}") on:click=on(copy_address)>
                            {text(address)}
                        </button>
                    </dd>
                </div>
                <div>
                    <dt>"CPU"</dt>
                    <dd data-testid=format!("node-cpu-{name}")>{text(cpu)}</dd>
                </div>
                <div>
                    <dt>"Memory"</dt>
                    <dd data-testid=format!("node-memory-{name}")>{text(memory)}</dd>
                </div>
            </dl>
            <UsageChart name/>
            <Ports name ports=Signal::derive(move || node.with(|n| n.as_ref().map(|n| n.ports.clone()).unwrap_or_default()))/>
        </li>
    }
}

/// What can be done with a node.
#[component]
fn NodeButtons(name: NodeName, power: Signal<Power>) -> impl IntoView {
    let session = use_app().session;
    let is_on = move || power.get() == Power::On;
    let power_label = move || if is_on() { format!("Switch {name} off") } else { format!("Switch {name} on") };
    view! {
        <span class="node-buttons">
            {when(move || session.may_type(), move || view! {
                <button
                    class="quiet"
                    data-testid=format!("open-terminal-{name}")
                    title=format!("New terminal on {name}")
                    aria-label=format!("New terminal on {name}")
                    disabled=flag(move || !is_on())
                    on:click=on(move |_| session.open_tab(name))
                ><Icon d=icon::TERMINAL/></button>
            }.into_any())}
            {when(move || session.may_own(), move || view! {
                <button
                    class="quiet"
                    data-testid=format!("power-{name}")
                    title=text(power_label)
                    aria-label=text(power_label)
                    disabled=flag(move || power.get() == Power::Starting)
                    on:click=on(move |_| session.power(name, !untrack(is_on)))
                ><Icon d=icon::POWER/></button>
                <ConfirmButton
                    label=format!("Remove {name}")
                    question="Remove it and its disk?"
                    testid=format!("remove-{name}")
                    act=Box::new(move || session.remove_node(name))
                ><Icon d=icon::TRASH/></ConfirmButton>
            }.into_any())}
        </span>
    }
}

/// The ports that something listens on.
#[component]
fn Ports(name: NodeName, ports: Signal<Vec<Port>>) -> impl IntoView {
    let any = Memo::new(move |_| !ports.with(Vec::is_empty));
    view! {
        {when(move || any.get(), move || view! {
            <ul class="ports" aria-label=format!("Ports of {name}")>
                {each(
                    // Whether it can be opened is a part of the number: a port that changes gets another chip.
                    move || ports.get().iter().map(|p| u32::from(p.port) << 1 | u32::from(p.loopback_only)).collect(),
                    move |number| view! { <Chip name port=(number >> 1) as u16 loopback_only=number & 1 == 1/> }.into_any(),
                )}
            </ul>
        }.into_any())}
    }
}

/// One port.
#[component]
fn Chip(name: NodeName, port: u16, loopback_only: bool) -> impl IntoView {
    let session = use_app().session;
    let title = if loopback_only {
        format!("Port {port} listens on 127.0.0.1 only; let the program listen on 0.0.0.0 to open it here")
    } else {
        format!("Open port {port} of {name} in a new tab; Alt and a click copies its link")
    };
    let press = move |event: web_sys::MouseEvent| {
        if event.alt_key() {
            session.copy_port(name, port);
        } else {
            session.open_port(name, port);
        }
    };
    view! {
        <li>
            <button
                class="chip"
                data-testid=format!("port-{name}-{port}")
                disabled=flag(move || loopback_only || !session.may_type())
                title=title.clone()
                aria-label=title
                on:click=on(press)
            >{format!(":{port}")}</button>
        </li>
    }
}
