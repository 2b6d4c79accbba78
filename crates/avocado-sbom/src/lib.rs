//! The bill of materials: what is in the images of a runtime, and where each file comes from.
//!
//! [`attribute`] makes the contents of one image of what is in it ([`ImageInventory`]) and of what
//! rpm installed ([`InstalledPackage`]); a [`BillOfMaterials`] has those of all images of a runtime.
//! [`BillFormat`] writes it for others: the same bill is always the same bytes. [`BillContents`] is
//! what can be read again of any bill, to compare two ([`BillDifference`]).

mod attribution;
mod bill;
mod contents;
mod cpe;
mod cyclonedx;
mod difference;
mod file_properties;
mod format;
mod installed;
mod inventory;
mod licence;
mod package_url;
mod spdx_document;

pub use attribution::{ImageLayers, attribute};
pub use bill::{
    BillOfMaterials, BillSubject, FileComponent, FileOrigin, ImageComponent, ImageContents,
    ImageRole, PackageComponent, PackageRef,
};
pub use contents::{BillContents, BillReadError, ListedFile, ListedPackage};
pub use difference::{BillDifference, FileChange, PackageChange};
pub use format::{BillFormat, BillWriteError};
pub use installed::{InstalledFile, InstalledPackage};
pub use inventory::{ImageInventory, InventoryFile};
pub use package_url::rpm_package_url;
