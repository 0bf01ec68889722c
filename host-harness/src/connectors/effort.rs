//! What a component's functions demand of the compiler.
//!
//! What: for every place where control may go more than one way, the compiler keeps an account of each value that may
//! be needed later: a function's locals and what is on its stack. The number of places times the number of values, and
//! so much for each operator, is a function's effort; it is limited for one function and for all of a component, and so
//! is the number of functions.
//! Why before compiling: a few hundred kilobytes of loops over twenty thousand locals take the compiler gigabytes, and a
//! compiler that runs cannot be stopped. One unit was measured to take 20 to 50 bytes and less than a microsecond.
//! Why what is cheap is named and not what is dear: the engine makes places out of operators that look as if they had
//! none (`table.get`, `table.copy`), and its next version may out of others.
//! Not guaranteed: that two functions of the same effort take the same.

use super::error::LoadError;
use wasmparser::{
    CompositeInnerType, FuncValidator, FuncValidatorAllocations, Operator, Payload, TypeSectionReader, ValidPayload,
    Validator, ValidatorResources, WasmFeatures, WasmModuleResources as _,
};
use wasmparser::{FunctionBody, OperatorsReader, Parser};

/// Most effort of one function: some 200 MB, for each CPU of the host. A test sees to it that the connectors of this
/// repository stay below a tenth of all of these.
const FUNCTION: u64 = 5_000_000;

/// Most effort of all functions of a component together.
const COMPONENT: u64 = 100_000_000;

/// Most functions of a component, and types of functions. Of each, however short, some kilobytes are kept until all are
/// compiled.
const FUNCTIONS: u64 = 50_000;

/// Effort of an operator that only computes, whatever the number of values.
const PLAIN: u64 = 8;

/// The same for a branch or a call.
const BRANCH: u64 = 32;

/// The same for an operator that becomes branches and calls of the engine's own: 23 KB for a `table.copy`.
const HIDDEN: u64 = 500;

/// The same for an operator on vectors, which may be twenty instructions of the CPU.
const VECTOR: u64 = 40;

/// The same for each parameter and result of a function: it is entered in two ways, and both move all of them.
const PASSED: u64 = 16;

/// The same for each parameter and result of a type of functions.
const TYPED: u64 = 40;

/// What of the limits is said.
const UNIT: &str = " units";

/// Compares what the functions of a component demand with the limits.
///
/// # Errors
/// When one function, or all together, demand too much; [`LoadError::Corrupt`] when they are not valid.
pub(super) fn check(bytes: &[u8]) -> Result<(), LoadError> {
    let found = measure(bytes).map_err(|error| LoadError::Corrupt { why: error.to_string() })?;
    for (amount, limit, unit, what) in [
        (
            found.largest,
            FUNCTION,
            UNIT,
            "work for the compiler in one function, its branches times its variables; split it",
        ),
        (
            found.all,
            COMPONENT,
            UNIT,
            "work for the compiler in all functions, their branches times their variables; split them",
        ),
        (found.functions, FUNCTIONS, "", "functions and types of functions"),
    ] {
        if amount > limit {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX);
            return Err(LoadError::TooDemanding { what, unit, limit });
        }
    }
    Ok(())
}

/// What was found in a component.
#[derive(Debug, Default, Clone, Copy)]
struct Found {
    /// Effort of the function that needs most.
    largest: u64,
    /// Effort of all.
    all: u64,
    /// How many there are, with their types.
    functions: u64,
}

impl Found {
    /// Whether there is nothing left to find out.
    fn is_too_much(&self) -> bool {
        self.largest > FUNCTION || self.all > COMPONENT || self.functions > FUNCTIONS
    }
}

/// Goes through all functions. Stops where a limit is passed.
fn measure(bytes: &[u8]) -> Result<Found, wasmparser::BinaryReaderError> {
    // All that any engine takes; the compiler says no to what it does not.
    let mut validator = Validator::new_with_features(WasmFeatures::all());
    let mut allocations = FuncValidatorAllocations::default();
    let mut found = Found::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        if let Payload::TypeSection(types) = &payload {
            of_types(types, &mut found)?;
        }
        if found.is_too_much() {
            break;
        }
        if let ValidPayload::Func(function, body) = validator.payload(&payload)? {
            let mut function = function.into_validator(allocations);
            let effort = of_function(&mut function, &body)?;
            allocations = function.into_allocations();
            found.largest = found.largest.max(effort);
            found.all = found.all.saturating_add(effort);
            found.functions = found.functions.saturating_add(1);
            if found.is_too_much() {
                break;
            }
        }
    }
    Ok(found)
}

/// Adds the effort of the types of a module.
fn of_types(types: &TypeSectionReader<'_>, found: &mut Found) -> Result<(), wasmparser::BinaryReaderError> {
    for group in types.clone() {
        for ty in group?.types() {
            if let CompositeInnerType::Func(ty) = &ty.composite_type.inner {
                let passed = ty.params().len().saturating_add(ty.results().len());
                let effort = TYPED.saturating_mul(u64::try_from(passed).unwrap_or(u64::MAX));
                found.all = found.all.saturating_add(effort);
                found.functions = found.functions.saturating_add(1);
            }
        }
    }
    Ok(())
}

/// The effort of a function. Stops where the limit is passed.
fn of_function(
    validator: &mut FuncValidator<ValidatorResources>,
    body: &FunctionBody<'_>,
) -> Result<u64, wasmparser::BinaryReaderError> {
    let resources = validator.resources();
    let passed = match resources
        .type_id_of_function(validator.index())
        .map(|id| &resources.sub_type_at_id(id).composite_type.inner)
    {
        Some(CompositeInnerType::Func(ty)) => ty.params().len().saturating_add(ty.results().len()),
        _ => 0,
    };
    let mut reader = body.get_binary_reader();
    validator.read_locals(&mut reader)?;
    let mut reader = OperatorsReader::new(reader);
    let locals = u64::from(validator.len_locals());
    let mut effort = locals.saturating_add(PASSED.saturating_mul(u64::try_from(passed).unwrap_or(u64::MAX)));
    while !reader.eof() && effort <= FUNCTION {
        let at = reader.original_position();
        let operator = reader.read()?;
        // A branch takes its values off the stack, a call puts its results there.
        let before = validator.operand_stack_height();
        validator.op(at, &operator)?;
        let stack = validator.operand_stack_height().max(before);
        let values = locals.saturating_add(u64::from(stack));
        let (ways, alone) = cost(&operator);
        effort = effort.saturating_add(ways.saturating_mul(values)).saturating_add(alone);
    }
    Ok(effort)
}

/// What an operator costs: for each value there is, and by itself.
fn cost(operator: &Operator<'_>) -> (u64, u64) {
    // Operators that belong together come from one proposal to the standard.
    macro_rules! kind {
        ($( @$proposal:ident $op:ident $({ $($arg:ident: $argty:ty),* })? => $visit:ident ($($ann:tt)*) )*) => {
            match operator {
                $( Operator::$op { .. } => kind!(one @$proposal), )*
                _ => DEAR,
            }
        };
        (one @mvp) => { (0, PLAIN) };
        (one @sign_extension) => { (0, PLAIN) };
        (one @saturating_float_to_int) => { (0, PLAIN) };
        (one @wide_arithmetic) => { (0, PLAIN) };
        (one @simd) => { (0, VECTOR) };
        (one @relaxed_simd) => { (0, VECTOR) };
        (one @$proposal:ident) => { DEAR };
    }
    /// What is not known to be cheap: tables, whole stretches of memory, references, exceptions, whatever comes.
    const DEAR: (u64, u64) = (8, HIDDEN);
    match operator {
        Operator::Loop { .. }
        | Operator::Block { .. }
        | Operator::If { .. }
        | Operator::Else
        | Operator::Br { .. }
        | Operator::BrIf { .. }
        | Operator::Return
        | Operator::Call { .. }
        | Operator::CallIndirect { .. }
        | Operator::BrOnNull { .. }
        | Operator::BrOnNonNull { .. } => (1, BRANCH),
        Operator::BrTable { targets } => (u64::from(targets.len()).saturating_add(1), BRANCH),
        Operator::MemoryGrow { .. } => DEAR,
        Operator::TypedSelect { .. } => (0, PLAIN),
        _ => wasmparser::for_each_operator!(kind),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::component;
    use super::*;

    /// The verdict on a component of one function with so many locals and, `times` over, this.
    fn verdict(locals: usize, part: &str, times: usize) -> Result<(), LoadError> {
        let text = format!("(component (core module (func {} {})))", "(local i32)".repeat(locals), part.repeat(times));
        check(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn a_function_that_would_take_the_compiler_gigabytes_is_refused_before_it_is_compiled() {
        let changing = "(loop (local.set 1 (i32.mul (local.get 0) (local.get 1))) (br_if 0 (local.get 1)))";
        let table = format!("(block (br_table {} (local.get 0)))", "0 ".repeat(1000));
        for (locals, part, times) in [(20_000, changing, 2_000), (2_000, changing, 2_000), (200, table.as_str(), 100)] {
            let error = verdict(locals, part, times).unwrap_err();
            assert_eq!(error.code(), "component-too-demanding");
            assert!(error.to_string().contains("split it"), "{error}");
        }
        // What is on the stack counts like a local.
        let stack = format!("{}{}{}", "i32.const 1 ".repeat(3_000), "(block) ".repeat(3_000), "drop ".repeat(3_000));
        assert!(verdict(0, &stack, 1).is_err());
        // Ordinary functions are far from it.
        assert!(verdict(300, changing, 2_000).is_ok());
        assert!(verdict(20_000, "nop ", 10_000).is_ok());
    }

    /// The verdict on a component of one function with 20 000 locals that does this to a table, `times` over.
    fn verdict_on_table(part: &str, times: usize) -> Result<(), LoadError> {
        let text = format!(
            "(component (core module (table 1 funcref) (elem $e func) (memory 1) (func {} {})))",
            "(local i32)".repeat(20_000),
            part.repeat(times)
        );
        check(&wat::parse_str(text).unwrap())
    }

    #[test]
    fn operators_that_hide_branches_count_like_branches() {
        let three = "(i32.const 0) (i32.const 0) (i32.const 0)";
        for part in [
            "(drop (table.get 0 (i32.const 0)))".to_owned(),
            "(table.set 0 (i32.const 0) (ref.null func))".to_owned(),
            "(drop (table.grow 0 (ref.null func) (i32.const 1)))".to_owned(),
            "(table.fill 0 (i32.const 0) (ref.null func) (i32.const 1))".to_owned(),
            format!("(table.copy 0 0 {three})"),
            format!("(table.init $e {three})"),
            format!("(memory.copy {three})"),
            format!("(memory.fill {three})"),
            "(drop (memory.grow (i32.const 1)))".to_owned(),
            "(drop (ref.is_null (ref.null func)))".to_owned(),
        ] {
            let error = verdict_on_table(&part, 1_000).unwrap_err();
            assert_eq!(error.code(), "component-too-demanding", "{part}: {error}");
            assert!(verdict_on_table(&part, 10).is_ok(), "{part}");
        }
    }

    #[test]
    fn what_a_call_or_a_branch_moves_counts() {
        let results = "i64 ".repeat(900);
        let text = |body: &str| {
            format!("(component (core module (func $f (result {results}) unreachable) (func {})))", body.repeat(10_000))
        };
        let error = check(&wat::parse_str(text("(block (call $f) (br 0)) ")).unwrap()).unwrap_err();
        assert!(error.to_string().contains("one function"), "{error}");
        // Two thousand functions with many parameters and results.
        let passing = format!("(func (param {results}) (result {results}) unreachable)").repeat(4_000);
        let error = check(&wat::parse_str(format!("(component (core module {passing}))")).unwrap()).unwrap_err();
        assert!(error.to_string().contains("all functions"), "{error}");
    }

    #[test]
    fn a_function_that_is_only_long_is_too_much_as_well() {
        // Seven megabytes without a branch, nearly the longest that a function may be.
        let adding = "(i32.add (i32.const 1) (i32.const 2)) drop ";
        assert!(verdict(1, adding, 1_000_000).unwrap_err().to_string().contains("one function"));
        assert!(verdict(1, adding, 100_000).is_ok());
        let vector = "(drop (i64x2.mul (v128.const i64x2 1 2) (v128.const i64x2 3 4))) ";
        assert!(verdict(1, vector, 100_000).unwrap_err().to_string().contains("one function"));
        assert!(verdict(1, vector, 10_000).is_ok());
    }

    #[test]
    fn very_many_functions_are_too_many_however_short() {
        let component = |count: usize| wat::parse_str(format!("(component (core module {}))", "(func)".repeat(count)));
        // All are of one type.
        let error = check(&component(50_000).unwrap()).unwrap_err();
        assert_eq!(
            error.to_string(),
            "the component demands more than the 50000 functions and types of functions that one may have"
        );
        assert!(check(&component(49_999).unwrap()).is_ok());
    }

    #[test]
    fn very_many_types_of_functions_are_too_many_although_there_is_no_function() {
        let component =
            |ty: &str, count: usize| wat::parse_str(format!("(component (core module {}))", ty.repeat(count))).unwrap();
        let error = check(&component("(type (func))", 50_001)).unwrap_err();
        assert!(error.to_string().contains("types of functions"), "{error}");
        assert!(check(&component("(type (func))", 50_000)).is_ok());
        // Fewer with many parameters.
        let wide = format!("(type (func (param {})))", "i64 ".repeat(1_000));
        let error = check(&component(&wide, 2_600)).unwrap_err();
        assert!(error.to_string().contains("all functions"), "{error}");
        assert!(check(&component(&wide, 2_000)).is_ok());
    }

    #[test]
    fn many_such_functions_are_too_many_together() {
        let function = format!(
            "(func {} {})",
            "(local i32)".repeat(2_000),
            "(loop (local.set 1 (i32.const 1)) (br_if 0 (local.get 1)))".repeat(1_000)
        );
        let component = |count: usize| wat::parse_str(format!("(component (core module {}))", function.repeat(count)));
        assert!(check(&component(2).unwrap()).is_ok());
        let error = check(&component(30).unwrap()).unwrap_err();
        assert!(error.to_string().contains("all functions"), "{error}");
    }

    #[test]
    fn connectors_are_far_below_the_limits() {
        assert!(check(&component()).is_ok());
        // The ones of this repository, where they have been built. The InsightIDR connector was measured to have 1699
        // functions of 2 872 355 units together, its largest of 277 351; the largest guest of the tests has 133 778.
        for path in built() {
            let found = measure(&std::fs::read(&path).unwrap()).unwrap();
            let is_far =
                found.largest < FUNCTION / 10 && found.all < COMPONENT / 10 && found.functions < FUNCTIONS / 10;
            assert!(is_far, "{}: {found:?}", path.display());
        }
    }

    /// The components that were built of this repository.
    fn built() -> Vec<std::path::PathBuf> {
        let guests = std::env::var_os("GUESTS").map(|directory| std::fs::read_dir(directory).unwrap());
        let guests = guests.into_iter().flatten().map(|entry| entry.unwrap().path());
        std::env::var_os("CONNECTOR")
            .map(std::path::PathBuf::from)
            .into_iter()
            .chain(guests.filter(|path| path.extension().is_some_and(|extension| extension == "wasm")))
            .collect()
    }
}
