//! `POST /api/v1/config:reload`: reads the configuration again, and says what came of it.

use std::{fmt::Debug, sync::Arc};

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::post,
};
use serde::Serialize;
use thiserror::Error;
use utoipa::ToSchema;

use super::{axum_problem, layers, routes};
use crate::{error::ErrorCode, group::BoxFuture, settings::Change};

/// Whoever can read the configuration again.
pub trait Reload: Debug + Send + Sync {
    /// Reads it and puts into force what can be, or, if anything is wrong with it, nothing. One at a time.
    ///
    /// # Errors
    /// Why nothing has changed.
    fn reload(&self) -> BoxFuture<'_, Result<Reloaded, ReloadError>>;
}

/// What a reload has changed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reloaded {
    /// What is in force.
    pub changed: Vec<Change>,
    /// What is not, before the node starts anew.
    pub needs_restart: Vec<Change>,
    /// The sections whose certificates were exchanged.
    pub certificates: Vec<&'static str>,
}

/// Why a reload has changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReloadError {
    /// All that is wrong, each with what would be right.
    #[error("nothing has changed:\n{}", .0.join("\n"))]
    Faults(Vec<String>),
    #[error("the node is stopping")]
    Stopping,
}

impl ReloadError {
    const fn code(&self) -> ErrorCode {
        match self {
            Self::Faults(_) => ErrorCode::BadRequest,
            Self::Stopping => ErrorCode::ShuttingDown,
        }
    }
}

pub(super) fn routes(reload: Arc<dyn Reload>) -> Router {
    routes::mount(Router::new(), routes::RELOAD, post(call).fallback(layers::wants_post)).with_state(reload)
}

/// What a reload has changed at this node.
#[derive(Serialize, ToSchema)]
pub(super) struct ReloadReport {
    /// What is in force from now on.
    changed: Vec<SettingChange>,
    /// What will be in force when the node starts anew.
    needs_restart: Vec<SettingChange>,
    /// The sections whose certificates were exchanged.
    certificates: Vec<&'static str>,
}

/// A key whose value is another one than before. Values are as TOML writes them, without secrets.
#[derive(Serialize, ToSchema)]
pub(super) struct SettingChange {
    key: String,
    /// The value that it had.
    #[schema(required)]
    old: Option<String>,
    /// The value that it is given.
    #[schema(required)]
    new: Option<String>,
}

impl From<Change> for SettingChange {
    fn from(change: Change) -> Self {
        Self { key: change.path.to_string(), old: change.old, new: change.new }
    }
}

/// Reads the configuration again
///
/// The same file, environment and flags as when the node started. What can change while it runs is put into force, and
/// what needs a restart is named. All or nothing: if anything is wrong with the configuration, or a database or
/// certificate that it names can't be used, nothing changes. A call that times out goes on; the node's log tells how it
/// ended. Takes no body.
#[utoipa::path(
    post,
    path = routes::RELOAD,
    operation_id = "reloadConfig",
    tag = "operation",
    responses((
        status = 200,
        description = "The configuration is right",
        body = ReloadReport,
        example = json!({
            "changed": [{"key": "group.scores.ttl", "old": "\"30s\"", "new": "\"5s\""}],
            "needs_restart": [{"key": "cluster.virtual_nodes", "old": "2048", "new": "4096"}],
            "certificates": [],
        }),
    ))
)]
pub(super) async fn call(State(reload): State<Arc<dyn Reload>>) -> Response {
    // In a task of its own: a client that hangs up, or a timeout, does not leave it half done.
    match tokio::spawn(async move { reload.reload().await }).await {
        Ok(Ok(reloaded)) => {
            let changes = |changes: Vec<Change>| changes.into_iter().map(SettingChange::from).collect();
            Json(ReloadReport {
                changed: changes(reloaded.changed),
                needs_restart: changes(reloaded.needs_restart),
                certificates: reloaded.certificates,
            })
            .into_response()
        }
        Ok(Err(error)) => axum_problem(error.code(), error.to_string()),
        Err(_) => axum_problem(ErrorCode::ShuttingDown, "the node is stopping"),
    }
}
