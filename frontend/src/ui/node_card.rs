//! One node: its state and figures, its ports, what can be done with it.

use super::el::{El, el, group};
use super::{
    confirm_button::confirm_button,
    icon::{self, icon, icon_button},
    usage_chart::usage_chart,
};
use crate::reactive::*;
use crate::{
    logic::{docker, units},
    store::{session::SessionStore, use_app},
};
use drydock_protocol::{
    NodeName,
    state::{Node, Port, Power},
};

/// The card.
pub fn node_card(name: NodeName) -> El {
    let session = use_app().session;
    let with = move |read: fn(&Node) -> String| move || of_node(session, name, read).unwrap_or_default();
    let power = move || power_of(session, name);
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
    let containers =
        with(|n| n.docker.as_ref().map(|d| format!("{} running", docker::running(d))).unwrap_or_default());
    let copy_address = move || {
        session.copy(untrack(address), Some("The address is copied."));
    };
    el("li")
        .class("node")
        .testid(format!("node-{name}"))
        .attr_of("data-power", state)
        .child(
            el("div")
                .class("node-head")
                .child(el("span").class("dot").attr("aria-hidden", "true"))
                .child(el("h3").text(name.to_string()))
                .child(el("span").class("node-power").text_of(words))
                .child(node_buttons(name)),
        )
        .child(
            el("dl")
                .class("figures")
                .child(
                    el("div").child(el("dt").text("Address")).child(
                        el("dd").child(
                            el("button")
                                .class("link")
                                .attr("title", "Copy the address")
                                .testid(format!("node-address-{name}"))
                                .click(copy_address)
                                .text_of(address),
                        ),
                    ),
                )
                .child(
                    el("div")
                        .child(el("dt").text("CPU"))
                        .child(el("dd").testid(format!("node-cpu-{name}")).text_of(cpu)),
                )
                .child(
                    el("div")
                        .child(el("dt").text("Memory"))
                        .child(el("dd").testid(format!("node-memory-{name}")).text_of(memory)),
                )
                .when(
                    move || of_node(session, name, |n| n.docker.is_some()) == Some(true),
                    move || {
                        el("div").child(el("dt").text("Containers")).child(
                            el("dd").child(
                                el("button")
                                    .class("link")
                                    .attr("title", "Show the Docker view")
                                    .testid(format!("node-containers-{name}"))
                                    .click(move || session.show_docker(true))
                                    .text_of(containers),
                            ),
                        )
                    },
                ),
        )
        .child(usage_chart(name))
        .child(ports(name))
}

/// What the session says about a node, if it is there.
pub fn of_node<T>(session: SessionStore, name: NodeName, read: fn(&Node) -> T) -> Option<T> {
    session.state.with(|s| s.nodes.iter().find(|n| n.name == name).map(read))
}

fn power_of(session: SessionStore, name: NodeName) -> Power {
    of_node(session, name, |n| n.power).unwrap_or(Power::Off)
}

/// A port, and whether it can be opened from here, as one number.
pub fn number_of(port: u16, loopback_only: bool) -> u32 {
    u32::from(port) << 1 | u32::from(loopback_only)
}

/// What can be done with a node.
fn node_buttons(name: NodeName) -> El {
    let session = use_app().session;
    let is_on = move || power_of(session, name) == Power::On;
    let power_label =
        move || if is_on() { format!("Switch {name} off") } else { format!("Switch {name} on") };
    el("span")
        .class("node-buttons")
        .when(
            move || session.may_type(),
            move || {
                icon_button(&format!("New terminal on {name}"), icon::TERMINAL)
                    .testid(format!("open-terminal-{name}"))
                    .attr_if("disabled", move || !is_on())
                    .click(move || session.open_tab(name))
            },
        )
        .when(
            move || session.may_own(),
            move || {
                group()
                    .child(
                        el("button")
                            .class("quiet")
                            .testid(format!("power-{name}"))
                            .attr_of("title", power_label)
                            .attr_of("aria-label", power_label)
                            .off_if(move || power_of(session, name) == Power::Starting)
                            .click(move || {
                                if untrack(|| power_of(session, name)) != Power::Starting {
                                    session.power(name, !untrack(is_on));
                                }
                            })
                            .child(icon(icon::POWER)),
                    )
                    .child(confirm_button(
                        format!("Remove {name}"),
                        "Remove it and its disk?",
                        format!("remove-{name}"),
                        Box::new(move || session.remove_node(name)),
                        move || icon(icon::TRASH),
                    ))
            },
        )
}

fn numbered(port: &Port) -> u32 {
    number_of(port.port, port.loopback_only)
}

/// The ports that something listens on.
fn ports(name: NodeName) -> El {
    let session = use_app().session;
    group().when(
        move || of_node(session, name, |n| !n.ports.is_empty()) == Some(true),
        move || {
            el("ul").class("ports").attr("aria-label", format!("Ports of {name}")).each(
                // Whether it can be opened is a part of the number: a port that changes gets another chip.
                move || {
                    of_node(session, name, |n| n.ports.iter().map(numbered).collect()).unwrap_or_default()
                },
                move |number| {
                    let port = (number >> 1) as u16;
                    let chip = port_chip(name, port, number & 1 == 1).testid(format!("port-{name}-{port}"));
                    el("li").child(chip)
                },
            )
        },
    )
}

/// A button that opens a port.
pub fn port_chip(name: NodeName, port: u16, loopback_only: bool) -> El {
    let session = use_app().session;
    let title = move || {
        if loopback_only {
            format!(
                "Port {port} listens on 127.0.0.1 only; let the program listen on 0.0.0.0 to open it here"
            )
        } else if session.may_type() {
            format!("Open port {port} of {name} in a new tab; Alt and a click copies its link")
        } else {
            format!("Port {port} of {name}, which opens for those who may type")
        }
    };
    let press = move |event: web_sys::MouseEvent| {
        if event.alt_key() {
            session.copy_port(name, port);
        } else {
            session.open_port(name, port, "/");
        }
    };
    el("button")
        .class("chip")
        .attr_if("disabled", move || loopback_only || !session.may_type())
        .attr_of("title", title)
        .attr_of("aria-label", title)
        .on("click", press)
        .text(format!(":{port}"))
}
