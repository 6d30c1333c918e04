//! What each node's Docker engine has: containers with their published ports, images, and at the bottom what is under way. It
//! changes by itself; nothing here asks for it.

use super::confirm_button::confirm_button;
use super::el::{El, el, group, nothing};
use super::icon::{self, icon, icon_button};
use super::node_card::{number_of, of_node, port_chip};
use super::nodes_panel::{node_name, node_numbers};
use crate::{
    browser,
    logic::{
        docker::{look, number, running, state},
        units,
    },
    store::{session::SessionStore, use_app},
};
use drydock_protocol::{
    NodeName,
    docker::{Activity, Container, Docker, Image},
    state::{Node, Power},
};

/// What to type first. The image is in every catalogue and answers at its port.
const FIRST: &str = "docker run -d -p 8080:80 nginx";

/// The dock.
pub fn docker_dock() -> El {
    let session = use_app().session;
    // A node's number and the place in its list make one number.
    let under_way = move || {
        session.state.with(|s| {
            let of = |n: &Node| {
                let count = n.docker.as_ref().map_or(0, |d| d.activities.len() as u32);
                let first = u32::from(n.name.number()) << 8;
                first..first + count.min(0xff)
            };
            s.nodes.iter().flat_map(of).collect()
        })
    };
    el("section")
        .class("docker")
        .attr("data-area", "docker")
        .testid("docker")
        .attr("aria-labelledby", "docker-title")
        .child(
            el("div")
                .class("panel-head")
                .child(el("h2").attr("id", "docker-title").class("panel-title").text("Docker"))
                .child(el("span").class("spacer"))
                .child(icon_button("Close the Docker view", icon::CLOSE).testid("docker-close").click(
                    move || {
                        session.show_docker(false);
                        browser::focus("[data-testid='toggle-docker'], [data-testid='area-terminals']");
                    },
                )),
        )
        .child(
            // What scrolls can be reached by keyboard even when there is no button in it.
            el("div")
                .class("engines")
                .attr("tabindex", "0")
                .attr("role", "group")
                .attr("aria-label", "Containers and images")
                .each(node_numbers(session), |number| engine(node_name(number)))
                .when(
                    move || session.state.with(|s| s.nodes.is_empty()),
                    || el("p").class("muted").text("The session has no node."),
                ),
        )
        .child(
            el("ul")
                .class("activities")
                .attr("aria-label", "Under way")
                .each(under_way, |number| activity(node_name(number >> 8), number & 0xff)),
        )
}

/// What the engine of a node says; `None` while none has been used.
fn of_engine<T>(session: SessionStore, name: NodeName, read: fn(&Docker) -> T) -> Option<T> {
    session.state.with(|s| docker(&s.nodes, name).map(read))
}

/// One node.
fn engine(name: NodeName) -> El {
    let session = use_app().session;
    let containers =
        move || of_engine(session, name, |d| d.containers.iter().map(|c| number(&c.id)).collect());
    let images = move || of_engine(session, name, |d| d.images.iter().map(|i| number(&i.id)).collect());
    let text = move |read: fn(&Docker) -> String| move || of_engine(session, name, read).unwrap_or_default();
    el("section")
        .class("engine")
        .testid(format!("docker-{name}"))
        .attr("aria-label", format!("Docker on {name}"))
        .child(
            el("div").class("engine-head").child(el("h3").text(name.to_string())).child(
                el("span")
                    .class("muted")
                    .attr("role", "status")
                    .text_of(text(|d| format!("{} of {} running", running(d), d.container_count))),
            ),
        )
        .when(
            move || {
                of_node(session, name, |n| {
                    n.power == Power::On && n.docker.as_ref().is_none_or(|d| d.containers.is_empty())
                }) == Some(true)
            },
            move || help(name),
        )
        .child(
            el("ul")
                .class("containers")
                .attr("aria-label", format!("Containers of {name}"))
                .each(move || containers().unwrap_or_default(), move |number| container(name, number)),
        )
        .when(
            move || of_engine(session, name, |d| d.images.is_empty()) == Some(false),
            move || {
                group()
                    .child(
                        el("h4")
                            .class("panel-title")
                            .text_of(text(|d| format!("Images ({})", d.image_count))),
                    )
                    .child(
                        el("ul")
                            .class("images")
                            .attr("aria-label", format!("Images of {name}"))
                            .each(move || images().unwrap_or_default(), move |number| image(name, number)),
                    )
            },
        )
}

/// For a node without a container: what to type.
fn help(name: NodeName) -> El {
    let session = use_app().session;
    el("div")
        .class("engine-help")
        .testid(format!("docker-help-{name}"))
        .child(el("p").class("muted").text(format!("No container yet. Type on {name}:")))
        .child(
            el("p").child(el("code").text(FIRST)).child(
                icon_button("Copy the command", icon::COPY)
                    .click(move || session.copy(FIRST.into(), Some("The command is copied."))),
            ),
        )
}

/// One container.
fn container(name: NodeName, id: u32) -> El {
    let session = use_app().session;
    let with = move |read: fn(&Container) -> String| {
        move || {
            session
                .state
                .with(|s| docker(&s.nodes, name)?.containers.iter().find(|c| number(&c.id) == id).map(read))
                .unwrap_or_default()
        }
    };
    let image = with(|c| c.image.clone());
    let ports = move || {
        session
            .state
            .with(|s| {
                let all = &docker(&s.nodes, name)?.containers;
                Some(
                    all.iter()
                        .find(|c| number(&c.id) == id)?
                        .ports
                        .iter()
                        .map(|port| number_of(*port, loopback_only(&s.nodes, name, *port)))
                        .collect(),
                )
            })
            .unwrap_or_default()
    };
    let can_be_done = move || {
        let of = |c: &&Container| number(&c.id) == id;
        let runs = |c: &Container| matches!(c.state.as_str(), "running" | "paused" | "restarting");
        let tell = |c: &Container| (runs(c), c.id.clone(), c.name.clone());
        session
            .may_type()
            .then(|| session.state.with(|s| docker(&s.nodes, name)?.containers.iter().find(of).map(tell)))?
    };
    el("li")
        .attr_of("data-look", with(|c| look(c).into()))
        .attr_of("data-testid", with(|c| format!("container-{}", c.name)))
        .child(el("span").class("dot").attr("aria-hidden", "true"))
        .child(
            el("strong")
                .class("cut")
                .attr_of("title", with(|c| c.id.clone()))
                .text_of(with(|c| c.name.clone())),
        )
        .child(el("span").class("look").text_of(with(state)))
        .child(el("span").class("cut muted").attr_of("title", image).text_of(image))
        .child(el("span").class("ports").each(ports, move |number| {
            let port = (number >> 1) as u16;
            port_chip(name, port, number & 1 == 1).testid(format!("open-{name}-{port}"))
        }))
        .switch(can_be_done, move |can| can.map_or_else(nothing, |can| container_buttons(name, can)))
}

/// What can be done with a container: whether it runs, its id and its name.
fn container_buttons(node: NodeName, (runs, id, name): (bool, String, String)) -> El {
    let session = use_app().session;
    let (power, verb) =
        if runs { (format!("Stop {name}"), "stop") } else { (format!("Start {name}"), "start") };
    let logs = format!("docker logs -f {name}");
    let removed = id.clone();
    el("span")
        .class("container-buttons")
        .child(
            icon_button(&format!("Logs of {name}"), icon::TERMINAL)
                .testid(format!("logs-{name}"))
                .click(move || session.open_command(node, &logs)),
        )
        .child(
            icon_button(&power, icon::POWER)
                .testid(format!("power-{name}"))
                .click(move || session.run(node, format!("docker {verb} {id}"))),
        )
        .child(confirm_button(
            format!("Remove {name}"),
            "Remove it?",
            format!("remove-{name}"),
            move || session.run(node, format!("docker rm -f {removed}")),
            move || icon(icon::TRASH),
        ))
}

/// One image.
fn image(name: NodeName, id: u32) -> El {
    let session = use_app().session;
    let with = move |read: fn(&Image) -> String| {
        move || {
            session
                .state
                .with(|s| docker(&s.nodes, name)?.images.iter().find(|i| number(&i.id) == id).map(read))
                .unwrap_or_default()
        }
    };
    let names = with(|i| if i.names.is_empty() { i.id.clone() } else { i.names.join(", ") });
    el("li")
        .child(el("span").class("cut").attr_of("title", names).text_of(names))
        .child(el("span").class("number").text_of(with(|i| units::bytes(i.size))))
}

/// Whether a published port can be opened is told by what listens on it.
fn loopback_only(nodes: &[Node], name: NodeName, port: u16) -> bool {
    let node = nodes.iter().find(|n| n.name == name);
    node.is_some_and(|node| node.ports.iter().any(|p| p.port == port && p.loopback_only))
}

fn docker(nodes: &[Node], name: NodeName) -> Option<&Docker> {
    nodes.iter().find(|n| n.name == name)?.docker.as_ref()
}

/// One pull, push or build under way.
fn activity(name: NodeName, at: u32) -> El {
    let session = use_app().session;
    let with = move |read: fn(&Activity) -> Option<String>| {
        move || session.state.with(|s| docker(&s.nodes, name)?.activities.get(at as usize).and_then(read))
    };
    let text = move |read: fn(&Activity) -> Option<String>| {
        let read = with(read);
        move || read().unwrap_or_default()
    };
    let title = text(|a| Some(a.title.clone()));
    el("li")
        .child(el("span").class("cut").text_of(move || format!("{name}: {}", title())))
        .child(
            el("progress")
                .attr_of("aria-label", title)
                .attr_maybe("max", with(|a| a.total.map(|n| n.to_string())))
                .attr_maybe("value", with(|a| a.done.map(|n| n.to_string()))),
        )
        .child(el("span").class("cut muted").text_of(text(|a| Some(a.detail.clone()))))
}
