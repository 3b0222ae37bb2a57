//! What every command works with: where output goes, which control plane, and which deployment is meant.
//!
//! Main thread.

use std::path::PathBuf;

use model::{AccountId, Deployment, DeploymentId, Project as ProjectRecord, State};

use crate::args::Target;
use crate::client::Client;
use crate::failure::{Failure, Kind, Outcome};
use crate::output::Output;
use crate::project::Project;
use crate::settings::{self, Given, Settings};

/// One run of the command.
pub(crate) struct Context {
    pub(crate) output: Output,
    pub(crate) settings: Settings,
    given_config: Option<PathBuf>,
}

impl Context {
    /// Merges flags, environment and the stored settings.
    pub(crate) fn new(
        output: Output,
        api_url: Option<String>,
        account: Option<String>,
        given_config: Option<PathBuf>,
    ) -> Outcome<Context> {
        let filled = |value: Option<String>| value.filter(|text| !text.is_empty());
        let token = filled(std::env::var("SELVAGE_TOKEN").ok());
        let stored = match settings::file(given_config.clone()) {
            Ok(file) => settings::load(&file)?,
            // Without a place for settings there are none.
            Err(_) => settings::Stored::default(),
        };
        let given = Given { api_url: filled(api_url), token, account: filled(account) };
        Ok(Context { output, settings: Settings::merge(given, stored), given_config })
    }

    /// A context for another control plane, with its token: `dev`'s own.
    pub(crate) fn elsewhere(&self, api_url: String, token: String, account: AccountId) -> Context {
        let settings = Settings { api_url, token: Some(token), account: Some(account.to_string()) };
        Context { output: self.output, settings, given_config: self.given_config.clone() }
    }

    /// The file that `login` writes.
    pub(crate) fn settings_file(&self) -> Outcome<PathBuf> {
        settings::file(self.given_config.clone())
    }

    /// A client with a token.
    pub(crate) fn client(&self) -> Outcome<Client> {
        self.settings.token()?;
        Client::new(&self.settings, self.output)
    }

    /// The account to work in: the given one, else the token's own.
    pub(crate) fn account(&self, client: &Client) -> Outcome<AccountId> {
        match &self.settings.account {
            Some(id) => id.parse().map_err(|error| Failure::usage(format!("not an account's id: {id:?}: {error}"))),
            None => Ok(client.whoami()?.account.id),
        }
    }

    /// The project of that slug, if there is one.
    pub(crate) fn project(&self, client: &Client, slug: &str) -> Outcome<Option<ProjectRecord>> {
        let account = self.account(client)?;
        Ok(client.projects(account)?.into_iter().find(|project| project.slug == slug))
    }

    /// The deployment that is meant, and a client for it.
    pub(crate) fn deployment(&self, target: &Target) -> Outcome<(Client, Deployment)> {
        let client = self.client()?;
        let name = match &target.name {
            Some(name) => name.clone(),
            None => {
                Project::read(&target.path, target.env.as_deref())
                    .map_err(|failure| match failure.place {
                        Some(_) => failure,
                        None => failure.hint("name the deployment with `--name`"),
                    })?
                    .name
            }
        };
        if let Ok(id) = name.parse::<DeploymentId>() {
            let deployment = client.deployment(id)?;
            return Ok((client, deployment));
        }
        let missing = || {
            Failure::new(Kind::NotFound, format!("no deployment {name:?} in project {:?}", target.project))
                .hint("`selvage list` shows those there are")
        };
        let project = self.project(&client, &target.project)?.ok_or_else(missing)?;
        let deployment = find(client.deployments(project.id)?, &name).ok_or_else(missing)?;
        Ok((client, deployment))
    }
}

/// The deployment of that name; those that are gone do not count.
pub(crate) fn find(deployments: Vec<Deployment>, name: &str) -> Option<Deployment> {
    let mut alive = deployments.into_iter().filter(|d| !matches!(d.status, State::Deleted | State::Deleting));
    alive.find(|deployment| deployment.name == name)
}
