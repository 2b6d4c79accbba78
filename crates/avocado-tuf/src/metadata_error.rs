/// Why bytes are not the metadata that they should be.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Not JSON, or not of the expected shape.
    #[error("it is not well-formed")]
    Json(#[from] serde_json::Error),
    /// The `_type` is of another role.
    #[error("it says that it is `{0}`")]
    Type(String),
    /// Another major version of the specification.
    #[error("it follows version `{0}` of the specification, and only 1 is known")]
    Specification(String),
    /// Too few good signatures by distinct keys of the role.
    #[error("it has {valid} of {threshold} needed signatures")]
    Signatures {
        /// How many count.
        valid: usize,
        /// How many are needed.
        threshold: u64,
    },
    /// More than one signature is listed under the same key id, which the specification forbids
    /// even where enough others are good.
    #[error("it lists more than one signature of key `{0}`")]
    Repeated(String),
    /// More signatures than any role has keys.
    #[error("its signatures are longer than 256 KiB")]
    TooManySignatures,
    /// A number in it has no canonical form.
    #[error("it holds a number that cannot be signed")]
    Number,
}
