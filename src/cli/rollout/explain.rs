//! `headgate rollout explain`.

use std::io::Write;

use bytes::Bytes;
use hyper::Method;

use super::api::{only_one, route_path};
use super::render::weights;
use crate::cli::admin_api::AdminArgs;
use crate::cli::client::segment;
use crate::cli::failure::Failure;
use crate::rollout::view::Explanation;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The sticky key, as clients send it; integers as decimal text
    #[arg(allow_hyphen_values = true)]
    key: String,
    /// The route; may be left out while one rollout is under way
    #[arg(long, value_name = "ROUTE")]
    route: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Args {
    pub fn run(&self, out: &mut dyn Write) -> Result<(), Failure> {
        let route = self.route.clone().map_or_else(|| Ok(only_one(&self.admin)?.route), Ok::<_, Failure>)?;
        let path = format!("{}/explain?key={}", route_path(&route), segment(&self.key));
        let explanation: Explanation = self.admin.ask(Method::GET, &path, Bytes::new())?;
        self.admin.print(out, &explanation, || text(&explanation))
    }
}

fn text(explanation: &Explanation) -> String {
    let Explanation { route, key, rollout, bucket, weights: shares, arm, version, because } = explanation;
    let version = version.map_or("no version".to_owned(), |version| format!("version {version}"));
    let shown = key.replace(char::is_control, " ");
    let mut text = format!("key '{shown}' on route {route} meets {arm}, {version}: {because}\n");
    if let (Some(rollout), Some(bucket)) = (rollout, bucket) {
        text.push_str(&format!("bucket {bucket} of 10,000 in {rollout}; {}\n", weights(shares)));
    }
    text
}
