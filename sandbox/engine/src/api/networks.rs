//! Endpoints of networks. What a network is stands in the network crate; containers are connected by `containers/net.rs`.

use crate::clock::Timestamp;
use crate::containers::{model::EndpointSettings, net};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::filters::Filters;
use crate::http::{Answer, ApiVersion, Query, answer, read_request};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use drydock_network::inspect::{Network, NetworkContainer};
use drydock_network::{IpamConfig, NewNetwork, is_predefined};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where they are.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new()
        .route("/networks", get(list))
        .route("/networks/", get(list))
        .route("/networks/create", post(create))
        .route("/networks/prune", post(prune))
        .route("/networks/{id}", get(inspect).delete(remove))
        .route("/networks/{id}/connect", post(connect))
        .route("/networks/{id}/disconnect", post(disconnect))
}

impl From<drydock_network::Error> for Error {
    fn from(error: drydock_network::Error) -> Self {
        let status = StatusCode::from_u16(error.kind().status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::new(status, error.to_string())
    }
}

async fn list(State(engine): State<Arc<Engine>>, version: ApiVersion, query: Query) -> Answer {
    let filters = Filters::of(&query)?;
    filters.validate(&["dangling", "driver", "id", "label", "name", "scope", "type"])?;
    let mut networks = choose(engine.networks.list(), &filters)?;
    // Since 1.28 only `inspect` tells who is connected.
    if version.at_least(28) {
        networks.iter_mut().for_each(|network| network.containers.clear());
    }
    Ok(answer(StatusCode::OK, &networks))
}

fn choose(mut networks: Vec<Network>, filters: &Filters) -> Result<Vec<Network>> {
    networks.retain(|network| {
        filters.exact("driver", network.driver)
            && filters.matches("name", &network.name)
            && filters.matches("id", &network.id)
            && filters.labels("label", &network.labels)
            && filters.exact("scope", network.scope)
    });
    let dangling: Vec<_> = filters.get("dangling").collect();
    match dangling[..] {
        [] => {}
        ["1" | "true"] => networks.retain(|n| !is_predefined(&n.name) && n.containers.is_empty()),
        ["0" | "false"] => networks.retain(|n| is_predefined(&n.name) || !n.containers.is_empty()),
        [_] => {
            let text =
                "invalid value for filter 'dangling', must be \"true\" (or \"1\"), or \"false\" (or \"0\")";
            return Err(Error::invalid(text));
        }
        _ => return Err(Error::invalid("got more than one value for filter key \"dangling\"")),
    }
    let types: Vec<_> = filters.get("type").collect();
    if let Some(wrong) = types.iter().find(|kind| !["builtin", "custom"].contains(kind)) {
        return Err(Error::invalid(format!("invalid filter: 'type'='{wrong}'")));
    }
    if !types.is_empty() {
        networks.retain(|n| types.contains(&if is_predefined(&n.name) { "builtin" } else { "custom" }));
    }
    Ok(networks)
}

async fn inspect(State(engine): State<Arc<Engine>>, Path(id): Path<String>, query: Query) -> Answer {
    if let Some(scope) = query.text("scope")
        && scope != "local"
    {
        return Err(Error::not_found(format!("network {id} not found")));
    }
    Ok(answer(StatusCode::OK, &engine.networks.find(&id)?))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CreateRequest {
    name: String,
    driver: Option<String>,
    scope: Option<String>,
    internal: bool,
    attachable: bool,
    ingress: bool,
    config_only: bool,
    config_from: Option<Value>,
    #[serde(rename = "EnableIPv4")]
    ipv4: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Option<Ipam>,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Ipam {
    driver: Option<String>,
    options: Option<BTreeMap<String, String>>,
    config: Option<Vec<IpamConfig>>,
}

async fn create(
    State(engine): State<Arc<Engine>>,
    version: ApiVersion,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let request: CreateRequest = read_request(&headers, body).await?;
    if request.ingress || request.scope.as_deref() == Some("swarm") {
        return Err(Error::forbidden(super::swarm::no_manager().message));
    }
    let from = request.config_from.as_ref().and_then(|from| from["Network"].as_str()).unwrap_or("");
    let ipam = request.ipam.unwrap_or_default();
    let driver = request.driver.unwrap_or_default();
    let mut options =
        if from.is_empty() { engine.config.get().network_options(&driver) } else { BTreeMap::new() };
    options.extend(request.options.unwrap_or_default());
    let new = NewNetwork {
        name: request.name,
        driver,
        internal: request.internal,
        attachable: request.attachable,
        ipv6: request.ipv6.unwrap_or(false),
        ipv4: request.ipv4.filter(|_| version.at_least(48)),
        scope: request.scope.unwrap_or_default(),
        ipam_driver: ipam.driver.unwrap_or_default(),
        ipam_options: ipam.options,
        ipam: ipam.config.unwrap_or_default(),
        options,
        labels: request.labels.unwrap_or_default(),
        config_only: request.config_only,
        config_from: from.to_owned(),
    };
    let id = engine.networks.create(new).await?;
    let made = engine.networks.find(&id)?;
    emit(&engine, "create", &made);
    Ok(answer(StatusCode::CREATED, &json!({ "Id": id, "Warning": "" })))
}

async fn remove(State(engine): State<Arc<Engine>>, Path(id): Path<String>) -> Answer {
    let removed = engine.networks.remove(&id).await?;
    emit(&engine, "destroy", &removed);
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn prune(State(engine): State<Arc<Engine>>, query: Query) -> Answer {
    let filters = Filters::of(&query)?;
    filters.validate(&["label", "label!", "until"])?;
    let until = super::until(&filters)?;
    let mut deleted = vec![];
    for network in engine.networks.list() {
        let old =
            until.is_none_or(|until| network.created.parse().is_ok_and(|created: Timestamp| created < until));
        let wanted = !is_predefined(&network.name)
            && !network.config_only
            && network.containers.is_empty()
            && old
            && filters.prune_labels(&network.labels);
        // One that somebody connects to at this moment stays.
        if wanted && engine.networks.remove(&network.id).await.is_ok() {
            emit(&engine, "destroy", &network);
            deleted.push(network.name);
        }
    }
    engine.events.emit("network", "prune", "", BTreeMap::from([("reclaimed".to_owned(), "0".to_owned())]));
    let deleted = if deleted.is_empty() { Value::Null } else { json!(deleted) };
    Ok(answer(StatusCode::OK, &json!({ "NetworksDeleted": deleted })))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ConnectRequest {
    container: String,
    endpoint_config: Option<EndpointSettings>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct DisconnectRequest {
    container: String,
    force: bool,
}

async fn connect(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let request: ConnectRequest = read_request(&headers, body).await?;
    let settings = request.endpoint_config.unwrap_or_default();
    net::connect(&engine, &id, &request.container, settings).await?;
    Ok(StatusCode::OK.into_response())
}

async fn disconnect(
    State(engine): State<Arc<Engine>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Answer {
    let request: DisconnectRequest = read_request(&headers, body).await?;
    match engine.containers.get(&request.container) {
        Ok(_) => net::disconnect(&engine, &id, &request.container, request.force).await?,
        // A container that nobody knows any more may still hold an address.
        Err(_) if request.force => {
            let network = engine.networks.find(&id)?;
            let of_it = |(_, endpoint): &(&String, &NetworkContainer)| endpoint.name == request.container;
            let container = network.containers.iter().find(of_it).map_or(&request.container, |(id, _)| id);
            engine.networks.release(&network.id, container)?;
        }
        Err(error) => return Err(error),
    }
    Ok(StatusCode::OK.into_response())
}

fn emit(engine: &Engine, action: &str, network: &Network) {
    let attributes = BTreeMap::from([
        ("name".to_owned(), network.name.clone()),
        ("type".to_owned(), network.driver.to_owned()),
    ]);
    engine.events.emit("network", action, &network.id, attributes);
}
