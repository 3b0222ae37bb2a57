//! The OpenAPI document, made from the handlers' own annotations and the model's types. Tests hold it against the router
//! and against real answers.

use std::collections::BTreeMap;

use axum::Json;
use model::{ErrorItem, LogRecord, Message, Version};
use serde::Serialize;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, Modify, OpenApi, ToSchema};

use crate::handlers::{
    accounts, audit, deployments, env, logs, operator, plans, projects, rollouts, routes, steering, versions,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Selvage deployment API", version = "1", description =
        "Every body is an envelope `{success, result, errors, messages, result_info?}`. Unknown fields of a request are \
         refused. A token reaches its own account; any id outside of it is answered 403 whether it exists or not. Lists \
         take `limit` and `cursor`. POSTs take an `Idempotency-Key` (not those that make tokens)."),
    paths(
        accounts::whoami, accounts::create, accounts::list, accounts::get, accounts::update,
        accounts::create_token, accounts::list_tokens, accounts::revoke_token, accounts::rotate_token,
        audit::list,
        projects::create, projects::list, projects::get, projects::update, projects::delete,
        deployments::create, deployments::list, deployments::get, deployments::delete, deployments::rollback,
        deployments::pause, deployments::resume,
        rollouts::get, rollouts::set, rollouts::stop,
        versions::upload, versions::list, versions::get, versions::activate, versions::source_map,
        routes::list, routes::create, routes::update, routes::delete,
        env::list, env::set, env::delete,
        logs::tail,
        operator::nodes, operator::update_node, operator::pops, operator::set_pop, operator::regions, operator::config, operator::deployment_config, operator::healthz,
        plans::list, plans::set,
        steering::get, steering::set,
        document,
    ),
    components(schemas(ErrorEnvelope, LogRecord)),
    modifiers(&Bearer),
    security(("token" = []))
)]
struct Api;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("selvage_…").build();
        let components = document.components.get_or_insert_with(Default::default);
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document.
pub fn openapi() -> Document {
    Api::openapi()
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", operation_id = "openapi", tag = "operator", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object), Problems))]
pub(crate) async fn document() -> Json<Document> {
    Json(openapi())
}

/// The body of a failure: `success` is false, `errors` says why. `result` is null, except that a refused upload shows the
/// invalid version that it made.
#[derive(Serialize, ToSchema)]
#[allow(dead_code)]
pub(crate) struct ErrorEnvelope {
    success: bool,
    #[schema(required = true)]
    result: Option<Version>,
    #[schema(min_items = 1)]
    errors: Vec<ErrorItem>,
    messages: Vec<Message>,
}

/// What any endpoint may answer when it does not do what it was asked.
pub(crate) struct Problems;

impl IntoResponses for Problems {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        let all = [
            ("400", "A field, parameter or body is not what it must be; `field` names it"),
            ("401", "No valid token"),
            ("403", "Outside of the token's reach, whether it exists or not; or a quota is used up"),
            ("404", "Inside the token's reach there is no such thing"),
            ("405", "Not a method of this path"),
            ("408", "The request did not arrive in time"),
            ("409", "Taken, or the deployment's state does not allow it"),
            ("413", "The body, or the module in it, is over the limit"),
            ("415", "Not the content type of this path"),
            ("422", "The module cannot serve, or an Idempotency-Key was used with another request"),
            ("426", "This path is a WebSocket"),
            (
                "429",
                "Too many requests of this token, or of this address without a valid one; `Retry-After` says when there may be more",
            ),
            ("500", "A fault of the server"),
            ("502", "A node refused the configuration; the previous version is active again"),
            ("503", "Too much is going on; try again"),
            ("504", "It took too long; it may still be done"),
        ];
        let response = |description: &str| {
            let content = ContentBuilder::new().schema(Some(Ref::from_schema_name("ErrorEnvelope"))).build();
            ResponseBuilder::new().description(description).content("application/json", content).build()
        };
        all.into_iter().map(|(status, description)| (status.to_owned(), RefOr::T(response(description)))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_operation_says_what_it_may_answer_instead() {
        let document = serde_json::to_value(openapi()).unwrap();
        let mut operations = 0;
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                // It touches nothing that could fail.
                if path == "/healthz" {
                    continue;
                }
                operations += 1;
                for status in Problems::responses().keys() {
                    let body = &operation["responses"][status]["content"]["application/json"]["schema"];
                    assert_eq!(body["$ref"], "#/components/schemas/ErrorEnvelope", "{method} {path} {status}");
                }
            }
        }
        assert_eq!(operations, crate::endpoints().len() - 1);
    }
}
