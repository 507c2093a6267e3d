//! Where files are uploaded to: a bucket, a container or a folder, by its URL.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::path::Path as ObjectPath;
use object_store::{Attribute, ObjectStore, ObjectStoreExt as _, ObjectStoreScheme, PutOptions, RetryConfig};
use reqwest::Url;

use crate::error::nearest;
use crate::outbound::tls;
use crate::prediction_log::UploadConfig;
use crate::store::StoreError;

/// One attempt as a whole, unless the option `timeout` says otherwise: 64 MiB in it are 1 Mbit/s.
const TIMEOUT: &str = "600s";
/// Longest text of a store's fault that is kept.
const MAX_CAUSE_CHARS: usize = 400;

/// Options that are shown to those who misspelt one; each store takes more.
const COMMON_OPTIONS: [&str; 14] = [
    "access_key_id",
    "account_key",
    "account_name",
    "allow_http",
    "base_url",
    "checksum_algorithm",
    "connect_timeout",
    "endpoint",
    "region",
    "secret_access_key",
    "server_side_encryption",
    "service_account",
    "timeout",
    "virtual_hosted_style_request",
];

/// A place that takes whole files by name.
#[derive(Debug)]
pub enum Destination {
    Objects { store: Box<dyn ObjectStore>, prefix: ObjectPath },
    Folder(PathBuf),
}

/// Why files can't be uploaded at all.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    #[error(
        "prediction_log.upload.url expects an address such as s3://bucket/prefix, gs://bucket, az://container or file:///folder, got '{0}'"
    )]
    Url(String),
    #[error(
        "prediction_log.upload.url '{url}' and the data directory lie one in the other: files would be uploaded to where they are read"
    )]
    Within { url: String },
    #[error(
        "prediction_log.upload.options: '{option}' is no option of {store}{}",
        nearest.as_ref().map(|name| format!(", did you mean '{name}'?")).unwrap_or_default()
    )]
    Option { store: &'static str, option: String, nearest: Option<String> },
    #[error("prediction_log.upload: {store} can't be used: {cause}")]
    Store { store: &'static str, cause: String },
    #[error(transparent)]
    State(#[from] StoreError),
    #[error("the thread that uploads can't be started: {0}")]
    Thread(io::Error),
}

/// A builder of a store: from the environment, then the URL, then the options, each of which wins over those before.
macro_rules! open {
    ($builder:ty, $name:literal, $config:expr) => {{
        let retry = RetryConfig { max_retries: 0, ..RetryConfig::default() };
        let mut builder = <$builder>::from_env().with_url(&$config.url).with_retry(retry);
        let timeout = ("timeout", TIMEOUT);
        let options = $config.options.iter().map(|(key, value)| (key.as_str(), value.0.as_str()));
        for (key, value) in std::iter::once(timeout).chain(options) {
            let known = key.to_ascii_lowercase().parse().map_err(|_| UploadError::Option {
                store: $name,
                option: key.to_owned(),
                nearest: nearest(key, COMMON_OPTIONS),
            });
            builder = builder.with_config(known?, value);
        }
        let built = builder.build();
        Box::new(built.map_err(|cause| UploadError::Store { store: $name, cause: text(&cause) })?)
    }};
}

impl Destination {
    /// Reads the URL and the options; reaches for nothing yet. Credentials that the options don't give come from the
    /// environment, as each store's own tools read it.
    ///
    /// # Errors
    /// `UploadError`, naming the key.
    pub fn open(config: &UploadConfig, data_dir: &Path) -> Result<Self, UploadError> {
        tls::install();
        let bad_url = || UploadError::Url(config.url.clone());
        let url: Url = config.url.parse().map_err(|_| bad_url())?;
        let (scheme, prefix) = ObjectStoreScheme::parse(&url).map_err(|_| bad_url())?;
        let store: Box<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::AmazonS3 => open!(AmazonS3Builder, "S3", config),
            ObjectStoreScheme::GoogleCloudStorage => open!(GoogleCloudStorageBuilder, "Google Cloud Storage", config),
            ObjectStoreScheme::MicrosoftAzure => open!(MicrosoftAzureBuilder, "Azure Blob Storage", config),
            ObjectStoreScheme::Local => return folder(config, &url, data_dir),
            _ => return Err(bad_url()),
        };
        Ok(Self::Objects { store, prefix })
    }

    /// Puts one file there, whole or not at all; what had the name before is replaced. A store is reached once: trying
    /// again is the caller's.
    ///
    /// # Errors
    /// What the store or the disk said.
    pub async fn put(&self, name: &str, bytes: Bytes) -> Result<(), String> {
        match self {
            Self::Objects { store, prefix } => {
                let inner = ObjectPath::parse(name).map_err(|cause| cause.to_string())?;
                let path: ObjectPath = prefix.parts().chain(inner.parts()).collect();
                let attributes = [(Attribute::ContentType, "application/vnd.apache.parquet")].into_iter().collect();
                let options = PutOptions { attributes, ..PutOptions::default() };
                store.put_opts(&path, bytes.into(), options).await.map(|_| ()).map_err(|cause| text(&cause))
            }
            Self::Folder(folder) => put_in_folder(&folder.join(name), &bytes).map_err(|cause| cause.to_string()),
        }
    }

    /// Deletes the objects of these names, wherever they lie below a folder. One that is not there is no error.
    ///
    /// # Errors
    /// What the store or the disk said; some may be deleted then.
    pub async fn delete_below(&self, folder: &str, names: &HashSet<String>) -> Result<(), String> {
        match self {
            Self::Objects { store, prefix } => {
                let below = ObjectPath::parse(folder).map_err(|cause| cause.to_string())?;
                let below: ObjectPath = prefix.parts().chain(below.parts()).collect();
                let mut listed = store.list(Some(&below));
                while let Some(object) = listed.try_next().await.map_err(|cause| text(&cause))? {
                    if !object.location.filename().is_some_and(|name| names.contains(name)) {
                        continue;
                    }
                    match store.delete(&object.location).await {
                        Err(cause) if !matches!(cause, object_store::Error::NotFound { .. }) => {
                            return Err(text(&cause));
                        }
                        _ => {}
                    }
                }
                Ok(())
            }
            Self::Folder(root) => delete_in_folder(&root.join(folder), names).map_err(|cause| cause.to_string()),
        }
    }
}

fn folder(config: &UploadConfig, url: &Url, data_dir: &Path) -> Result<Destination, UploadError> {
    let folder = url.to_file_path().map_err(|()| UploadError::Url(config.url.clone()))?;
    if let Some(option) = config.options.keys().next() {
        return Err(UploadError::Option { store: "a folder", option: option.clone(), nearest: None });
    }
    let failed = |cause: io::Error| UploadError::Store { store: "the folder", cause: cause.to_string() };
    fs::create_dir_all(&folder).map_err(failed)?;
    let (inner, outer) = (folder.canonicalize().map_err(failed)?, data_dir.canonicalize().map_err(failed)?);
    if inner.starts_with(&outer) || outer.starts_with(&inner) {
        return Err(UploadError::Within { url: config.url.clone() });
    }
    Ok(Destination::Folder(inner))
}

/// As sealed files come to their place: written under another name, synced, renamed.
fn put_in_folder(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let parent = path.parent().unwrap_or(path);
    fs::create_dir_all(parent)?;
    let unfinished = path.with_extension("tmp");
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(parent)?.sync_all()
}

/// In the folder and those in it. One that is gone has none of them.
fn delete_in_folder(folder: &Path, names: &HashSet<String>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            delete_in_folder(&path, names)?;
        } else if path.file_name().and_then(|name| name.to_str()).is_some_and(|name| names.contains(name)) {
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// The store's words and, where they leave it out, the operating system's below them.
fn text(error: &object_store::Error) -> String {
    let mut said = error.to_string();
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let root = cause.to_string();
    if !said.contains(&root) {
        said = format!("{said}: {root}");
    }
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(MAX_CAUSE_CHARS).collect()
}
