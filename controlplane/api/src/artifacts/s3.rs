//! The S3-compatible store: where it is, its client, and the trial at the start.
//!
//! Owns: what `s3://BUCKET/PREFIX`, an endpoint and the standard variables mean; the client's time limits and retries; the
//! trial, which finds wrong credentials, an absent bucket and an endpoint that does not answer before anything is served,
//! each with one message; and the *claim*, an object that says whose artifacts lie under the prefix: two installations
//! under one prefix would sweep each other's.
//! *Invariants:* credentials come from variables or the machine (instance metadata, a role), never from arguments, and are
//! in no message. Plain HTTP is spoken only to an endpoint whose URL says `http`.
//! *Bounds:* [`CONNECT_TIMEOUT`], [`REQUEST_TIMEOUT`], [`RETRIES`], [`RETRY_TIMEOUT`], [`REQUESTS_MAX`], [`TRIAL_TIMEOUT`].

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::StreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::limit::LimitStore;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use reqwest::Url;
use tokio::time::timeout;

use super::{ArtifactError, Artifacts, hash_of, is_absent, path, reason};

/// To connect, name lookup and TLS included. S3's own advice is about three seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// One request with its body: the largest object, 16 MiB, at 1.6 MB/s.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Tries after the first of what S3 asks to try again (5xx, 429) and of what did not arrive.
const RETRIES: usize = 3;
/// No try begins after this. With it an operation ends within 22 s, which is less than what is given to it.
const RETRY_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two tries, at first and at most.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));
/// Operations at a time: with the largest objects 512 MiB of memory. More wait.
const REQUESTS_MAX: usize = 32;
/// The whole trial: an operation of its own time and some quick ones.
const TRIAL_TIMEOUT: Duration = Duration::from_secs(25);

/// The name of the claim; no artifact's, so no sweep takes it.
const CLAIM: &str = "selvage-lineage";
const CLAIM_BYTES_MAX: u64 = 64;
const BUCKET_CHARS: &str = "letters, digits, `.`, `-` and `_`";

/// Where artifacts are in an S3-compatible store. It has the credentials, so it has no `Debug`.
#[derive(Clone)]
pub struct S3Place {
    bucket: String,
    prefix: Path,
    endpoint: Option<String>,
    region: Option<String>,
    virtual_host: bool,
    variables: Vec<(String, String)>,
}

impl S3Place {
    /// `s3://BUCKET` or `s3://BUCKET/PREFIX`, on Amazon's S3 unless an endpoint is given.
    pub fn parse(url: &str) -> Result<S3Place, ArtifactError> {
        let wrong = |what: &str| Err(ArtifactError::Place(format!("{url:?}: {what}")));
        let Some(rest) = url.strip_prefix("s3://") else { return wrong("must be s3://BUCKET or s3://BUCKET/PREFIX") };
        let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        if !(3..=63).contains(&bucket.len()) || !plain(bucket) || !bucket.as_bytes()[0].is_ascii_alphanumeric() {
            return wrong(&format!("a bucket's name is 3 to 63 {BUCKET_CHARS}"));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        let part = |part: &str| !part.is_empty() && part != "." && part != ".." && plain(part);
        if !prefix.is_empty() && !prefix.split('/').all(part) {
            return wrong(&format!("each part of a prefix is {BUCKET_CHARS}"));
        }
        Ok(S3Place {
            bucket: bucket.to_owned(),
            prefix: Path::from(prefix),
            endpoint: None,
            region: None,
            virtual_host: false,
            variables: Vec::new(),
        })
    }

    /// The server, `https://HOST` or `http://HOST:PORT`; else what `AWS_ENDPOINT_URL_S3` or `AWS_ENDPOINT_URL` says.
    pub fn with_endpoint(mut self, url: &str) -> Result<S3Place, ArtifactError> {
        self.endpoint = Some(endpoint(url)?.into());
        Ok(self)
    }

    /// The region; else what `AWS_REGION` or `AWS_DEFAULT_REGION` says, else `us-east-1`.
    pub fn with_region(mut self, region: &str) -> S3Place {
        self.region = Some(region.to_owned());
        self
    }

    /// The bucket is in the host's name, `BUCKET.HOST`, instead of in the path.
    pub fn with_virtual_host(mut self) -> S3Place {
        self.virtual_host = true;
        self
    }

    /// The standard variables (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, …) of this
    /// environment. Others in it mean nothing.
    pub fn with_variables(mut self, variables: impl IntoIterator<Item = (String, String)>) -> S3Place {
        let standard = |(name, value): &(String, String)| name.starts_with("AWS_") && !value.is_empty();
        self.variables = variables.into_iter().filter(standard).collect();
        self
    }

    /// The client, and where it goes, for messages.
    fn client(&self) -> Result<(AmazonS3, String), ArtifactError> {
        let mut builder = AmazonS3Builder::new();
        for (name, value) in &self.variables {
            if let Ok(key) = name.to_ascii_lowercase().parse::<AmazonS3ConfigKey>() {
                builder = builder.with_config(key, value);
            }
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        // It becomes a part of a host's name.
        let region = builder.get_config_value(&AmazonS3ConfigKey::Region).unwrap_or_default();
        if !region.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(ArtifactError::Place(format!("region {region:?}: letters, digits and `-`")));
        }
        let keys = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
        let given = self.endpoint.clone().or_else(|| keys.iter().find_map(|key| builder.get_config_value(key)));
        let mut plain_http = false;
        let mut place = format!("s3://{}/{}", self.bucket, self.prefix);
        if let Some(given) = given {
            let mut url = endpoint(&given)?;
            plain_http = url.scheme() == "http";
            place = format!("{place} at {}", text(&url));
            if self.virtual_host {
                put_into_host(&self.bucket, &mut url)?;
            }
            // The key that wins over the other.
            builder = builder.with_config(AmazonS3ConfigKey::S3Endpoint, text(&url));
        }
        if self.virtual_host {
            builder = builder.with_virtual_hosted_style_request(true);
        }
        let options = ClientOptions::new()
            .with_connect_timeout(CONNECT_TIMEOUT)
            .with_timeout(REQUEST_TIMEOUT)
            .with_allow_http(plain_http)
            // A machine without certificates may speak plain HTTP all the same. A role's credentials come over HTTPS.
            .with_no_system_certificates(plain_http && self.has_keys());
        let backoff = BackoffConfig { init_backoff: BACKOFF.0, max_backoff: BACKOFF.1, base: 2.0 };
        let retry = RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY_TIMEOUT };
        // Reqwest takes the process's provider. There may be one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = builder
            .with_bucket_name(&self.bucket)
            .with_client_options(options)
            .with_retry(retry)
            // A sweep deletes few, and not all stores have deletions of many.
            .with_disable_bulk_delete(true)
            .build()
            .map_err(|error| ArtifactError::Place(format!("{place}: {}", reason(&error))))?;
        Ok((client, place))
    }

    fn has_keys(&self) -> bool {
        self.variables.iter().any(|(name, _)| name == "AWS_ACCESS_KEY_ID")
    }
}

impl Artifacts {
    /// Artifacts in an S3-compatible store, which is tried: it is listed, and something is written, read and deleted. The artifacts
    /// under its prefix are those of this lineage's installation, and of no other.
    pub async fn s3(place: &S3Place, lineage: u128) -> Result<Artifacts, ArtifactError> {
        let (client, at) = place.client()?;
        let store = PrefixStore::new(LimitStore::new(client, REQUESTS_MAX), place.prefix.clone());
        let store: Arc<dyn ObjectStore> = Arc::new(store);
        let tried = match timeout(TRIAL_TIMEOUT, try_out(&store, lineage)).await {
            Ok(tried) => tried,
            Err(_) => Err(("use", format!("no answer within {} s", TRIAL_TIMEOUT.as_secs()))),
        };
        tried.map_err(|(verb, why)| {
            let machine = " (AWS_ACCESS_KEY_ID is not set: the credentials are those of the machine)";
            let hint = if place.has_keys() { "" } else { machine };
            ArtifactError::Place(format!("cannot {verb} {at}: {why}{hint}"))
        })?;
        Ok(Artifacts { store })
    }
}

/// What could not be done, and why.
type Refused = (&'static str, String);

async fn try_out(store: &Arc<dyn ObjectStore>, lineage: u128) -> Result<(), Refused> {
    let refused = |verb: &'static str| move |error: object_store::Error| (verb, reason(&error));
    match store.list(None).next().await {
        // Somebody else's object may have a name that we could not have given.
        None | Some(Ok(_) | Err(object_store::Error::InvalidPath { .. })) => {}
        Some(Err(error)) => return Err(("list", reason(&error))),
    }
    // Named like an artifact: one that a kill leaves behind is swept.
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let trial = path(hash_of(format!("{} {}", std::process::id(), now.as_nanos()).as_bytes()));
    let bytes = Bytes::from_static(b"selvage");
    store.put(&trial, PutPayload::from_bytes(bytes.clone())).await.map_err(refused("write to"))?;
    let read = async { store.get(&trial).await?.bytes().await };
    if read.await.map_err(refused("read from"))? != bytes {
        return Err(("use", "it does not give back what was written".to_owned()));
    }
    store.delete(&trial).await.map_err(refused("delete from"))?;
    claim(store, lineage).await
}

/// Writes down whose artifacts these are, or reads that they are ours.
async fn claim(store: &Arc<dyn ObjectStore>, lineage: u128) -> Result<(), Refused> {
    let refused = |error: object_store::Error| ("claim", reason(&error));
    let (name, ours) = (Path::from(CLAIM), format!("{lineage:032x}"));
    let found = match store.get(&name).await {
        Ok(found) if found.meta.size <= CLAIM_BYTES_MAX => found.bytes().await.map_err(refused)?,
        Ok(_) => Bytes::new(),
        Err(error) if is_absent(&error) => {
            store.put(&name, PutPayload::from(ours)).await.map_err(refused)?;
            return Ok(());
        }
        Err(error) => return Err(refused(error)),
    };
    if found == ours {
        return Ok(());
    }
    let why = format!(
        "its {CLAIM} says that another installation's artifacts are there; give this one a prefix of its own, or delete that \
         object if the other is no more"
    );
    Err(("use", why))
}

/// An endpoint's URL, which a client can use.
fn endpoint(given: &str) -> Result<Url, ArtifactError> {
    // Without the text: somebody may have put a password into it.
    let wrong = |what: &str| ArtifactError::Place(format!("S3 endpoint: {what}"));
    let url = Url::parse(given).map_err(|error| wrong(&format!("no URL: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong("must be https://HOST or http://HOST:PORT"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("credentials go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, not into the URL"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("must have no query and no fragment"));
    }
    Ok(url)
}

/// `BUCKET.` before the host.
fn put_into_host(bucket: &str, url: &mut Url) -> Result<(), ArtifactError> {
    let host = format!("{bucket}.{}", url.host_str().unwrap_or_default());
    let named = url.domain().is_some() && url.path() == "/";
    if !named || url.set_host(Some(&host)).is_err() {
        let what = "the bucket can be in the host's name only where the endpoint is a name, without a path";
        return Err(ArtifactError::Place(format!("S3 endpoint: {what}")));
    }
    Ok(())
}

fn text(url: &Url) -> &str {
    url.as_str().trim_end_matches('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong<T>(given: Result<T, ArtifactError>) -> String {
        match given {
            Ok(_) => panic!("it is taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn places_are_a_bucket_and_a_prefix_of_plain_names() {
        for (url, bucket, prefix) in [
            ("s3://abc", "abc", ""),
            ("s3://abc/", "abc", ""),
            ("s3://a.b-c_9/selvage/prod-1", "a.b-c_9", "selvage/prod-1"),
            ("s3://abc/x/", "abc", "x"),
        ] {
            let place = S3Place::parse(url).unwrap();
            assert_eq!((place.bucket.as_str(), place.prefix.as_ref()), (bucket, prefix), "{url}");
        }
        for url in [
            "",
            "s3:/abc",
            "S3://abc",
            "https://abc",
            "s3://",
            "s3://ab",
            "s3:///x",
            "s3://-abc",
            "s3://a b c",
            "s3://k:secret@abc",
            "s3://abc?x",
            "s3://abc//x",
            "s3://abc/x//y",
            "s3://abc/../x",
            "s3://abc/x/.",
            "s3://abc/ä",
            &format!("s3://{}", "a".repeat(64)),
        ] {
            assert!(wrong(S3Place::parse(url)).starts_with(&format!("{url:?}: ")), "{url}");
        }
    }

    #[test]
    fn endpoints_are_urls_without_credentials() {
        for (given, says) in [
            ("", "no URL"),
            ("minio:9000", "must be https://HOST"),
            ("ftp://minio", "must be https://HOST"),
            ("http://", "no URL"),
            ("http://1.2.3.999", "no URL"),
            ("http://minio:99999", "no URL"),
            ("https://key:secret@minio", "not into the URL"),
            ("https://minio/?x=1", "no query"),
            ("https://minio/#x", "no query"),
        ] {
            let message = wrong(S3Place::parse("s3://abc").unwrap().with_endpoint(given));
            assert!(message.contains(says) && !message.contains("secret"), "{given}: {message}");
        }
        let url = |given: &str| endpoint(given).unwrap();
        assert_eq!(text(&url("http://minio:9000/")), "http://minio:9000");
        let mut into = url("https://s3.example.net:8443");
        put_into_host("abc", &mut into).unwrap();
        assert_eq!(text(&into), "https://abc.s3.example.net:8443");
        for given in ["http://127.0.0.1:9000", "http://[::1]", "https://gateway/s3"] {
            assert!(wrong(put_into_host("abc", &mut url(given))).contains("a name, without a path"), "{given}");
        }
    }

    /// What the client makes of variables and options.
    fn client(place: &S3Place) -> Result<String, String> {
        place.client().map(|(_, at)| at).map_err(|error| error.to_string())
    }

    #[test]
    fn options_win_over_variables_and_what_is_missing_is_named() {
        let variables = |given: &[(&str, &str)]| {
            let owned = given.iter().map(|(name, value)| (name.to_string(), value.to_string()));
            S3Place::parse("s3://abc/x").unwrap().with_variables(owned.collect::<Vec<_>>())
        };
        let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "secret")];
        assert_eq!(client(&variables(&keys)).unwrap(), "s3://abc/x");
        let with = |more: (&'static str, &'static str)| variables(&[keys[0], keys[1], more]);
        let place = with(("AWS_ENDPOINT_URL", "http://minio:9000"));
        assert_eq!(client(&place).unwrap(), "s3://abc/x at http://minio:9000");
        let place = with(("AWS_ENDPOINT_URL_S3", "http://minio:9000"));
        let place = place.with_endpoint("https://ceph.example.net/").unwrap();
        assert_eq!(client(&place).unwrap(), "s3://abc/x at https://ceph.example.net");
        for (place, says) in [
            (variables(&keys[..1]), "SecretAccessKey"),
            (variables(&keys[1..]), "AccessKeyId"),
            (with(("AWS_REGION", "eu/../x")), "region"),
            (with(("AWS_ENDPOINT_URL", "minio")), "S3 endpoint"),
            (variables(&keys).with_region("a b"), "region"),
        ] {
            let message = client(&place).unwrap_err();
            assert!(message.contains(says) && !message.contains("secret"), "{message}");
        }
    }
}
