use clap::Subcommand;

#[derive(Debug, Subcommand)]
pub(crate) enum SigningKeysCommand {
    /// Create an ed25519 key
    Create {
        /// The name of the key
        #[arg(default_value = "dev-signing-key")]
        name: String,
    },
    /// List the keys
    List,
    /// Remove a key and its files
    Remove {
        /// The name or the key id
        name: String,
    },
}
