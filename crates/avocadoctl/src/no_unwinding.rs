//! An unwinder that walks no stack.
//!
//! The program for devices has neither symbols nor tables for unwinding (`scripts/build`): a panic
//! prints its message and ends it, and there is no backtrace to show. Std is compiled without
//! knowing that. It brings an unwinder, a reader of DWARF and the code that undoes the mangling of
//! names, and gets at them by way of the functions below. The linker takes these in their place,
//! the optimizer sees that nothing comes of a walk, and the rest is not linked.
//!
//! The signatures are those of the C++ ABI for Itanium, level 1, and of what GCC added to it.
#![expect(
    unsafe_code,
    reason = "the names are those that std links by; the functions themselves do nothing unsafe"
)]

use std::ffi::{c_int, c_void};

/// What code that walks a stack is given of a frame.
type Frame = *mut c_void;

/// `_URC_END_OF_STACK`.
const END_OF_STACK: c_int = 5;

/// Calls the function for every frame of the stack: for none.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Backtrace(
    _each: extern "C" fn(Frame, *mut c_void) -> c_int,
    _argument: *mut c_void,
) -> c_int {
    END_OF_STACK
}

/// Functions that only an unwinder's walk leads to. Nothing unwinds where a panic aborts.
macro_rules! never_reached {
    ($($name:ident($($argument:ty),*) -> $result:ty;)*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name($(_: $argument),*) -> $result {
                std::process::abort()
            }
        )*
    };
}

never_reached! {
    _Unwind_GetDataRelBase(Frame) -> usize;
    _Unwind_GetIP(Frame) -> usize;
    _Unwind_GetIPInfo(Frame, *mut c_int) -> usize;
    _Unwind_GetLanguageSpecificData(Frame) -> *mut c_void;
    _Unwind_GetRegionStart(Frame) -> usize;
    _Unwind_GetTextRelBase(Frame) -> usize;
    _Unwind_Resume(*mut c_void) -> !;
    _Unwind_SetGR(Frame, c_int, usize) -> ();
    _Unwind_SetIP(Frame, usize) -> ();
}
