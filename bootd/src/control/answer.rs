//! How errors are answered, and how requests are read so that their errors are too.

use axum::Json;
use axum::extract::FromRequest;
use axum::extract::rejection::JsonRejection;
use axum::response::{IntoResponse, Response};
use hyper::StatusCode;
use lvm::EngineError;
use site::{Edited, ImageName, NameError, StoreError, StoreErrorKind};
use tokio::task::JoinError;

use super::api::{Edit, Problem};
use crate::boot::ScriptError;

/// An error and its HTTP status.
#[derive(Debug)]
pub(super) struct Wrong {
    status: StatusCode,
    problem: Problem,
}

impl Wrong {
    pub(super) fn new(status: StatusCode, error: impl Into<String>, hint: Option<String>) -> Self {
        Self { status, problem: Problem { error: error.into(), hint } }
    }

    /// What was asked for breaks a rule.
    pub(super) fn invalid(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error, Some(hint.into()))
    }

    /// What was asked for is not there.
    pub(super) fn not_found(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, error, Some(hint.into()))
    }

    pub(super) fn into_problem(self) -> Problem {
        self.problem
    }
}

impl IntoResponse for Wrong {
    fn into_response(self) -> Response {
        (self.status, Json(self.problem)).into_response()
    }
}

impl From<NameError> for Wrong {
    fn from(error: NameError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string(), None)
    }
}

impl From<StoreError> for Wrong {
    fn from(error: StoreError) -> Self {
        let status = match error.kind() {
            StoreErrorKind::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            StoreErrorKind::NotFound => StatusCode::NOT_FOUND,
            StoreErrorKind::Conflict => StatusCode::CONFLICT,
            StoreErrorKind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        };
        match &error {
            StoreError::NoImage { name, known } => {
                let known: Vec<_> = known.iter().map(ImageName::as_str).collect();
                let there = if known.is_empty() {
                    "there are none yet".to_owned()
                } else {
                    format!("there are: {}", known.join(", "))
                };
                let hint = format!("{there}; take one in with: bootd image add NAME FILE");
                Self::new(status, format!("there is no image \"{name}\""), Some(hint))
            }
            _ => Self::new(status, error.to_string(), None),
        }
    }
}

impl From<ScriptError> for Wrong {
    fn from(error: ScriptError) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, error.to_string(), None)
    }
}

impl From<EngineError> for Wrong {
    fn from(error: EngineError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string(), None)
    }
}

impl From<JoinError> for Wrong {
    fn from(error: JoinError) -> Self {
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("internal error: {error}"),
            Some("this is a bug in bootd; its log says more".into()),
        )
    }
}

/// A JSON body; one that makes no sense is a [`Problem`] too.
pub(super) struct Body<T>(pub(super) T);

impl<S: Send + Sync, T> FromRequest<S> for Body<T>
where
    Json<T>: FromRequest<S, Rejection = JsonRejection>,
{
    type Rejection = Wrong;

    async fn from_request(request: axum::extract::Request, state: &S) -> Result<Self, Wrong> {
        let Json(body) = Json::<T>::from_request(request, state)
            .await
            .map_err(|e| Wrong::new(e.status(), e.body_text(), None))?;
        Ok(Self(body))
    }
}

/// What an edit did, with the value that it was about.
pub(super) fn edit<T>(edited: Edited, value: T) -> Json<Edit<T>> {
    let (changed, revision) = match edited {
        Edited::Changed { revision } => (true, revision),
        Edited::Already { revision } => (false, revision),
    };
    Json(Edit { changed, revision, value })
}
