"""What the exceptions that readers meet usually mean, in one sentence each."""

import einops

# (a part of the message in lower case, what it means); the first that fits is shown
MEANINGS: tuple[tuple[str, str], ...] = (
    ("must match the size of tensor", "two tensors meet whose axes do not have the same length; print both shapes"),
    ("must match the existing size", "a tensor cannot be expanded to that shape; only axes of length 1 can"),
    ("shapes cannot be multiplied", "a matrix product needs the inner axes to be equal; print both shapes"),
    ("inconsistent tensor size", "a product of vectors needs equal lengths; print both shapes"),
    ("sizes of tensors must match except", "torch.cat needs equal lengths on all axes but the one that it joins"),
    ("stack expects each tensor to be equal size", "torch.stack needs tensors of one shape; torch.cat joins others"),
    ("is invalid for input of size", "the new shape does not hold as many values as the old one"),
    ("view size is not compatible", "the values are not in order in memory; use einops.rearrange instead of view"),
    ("same device", "the tensors are on different devices; make new ones with device=x.device"),
    ("not compiled with cuda", "there is no GPU here; make new tensors with device=x.device instead of .cuda()"),
    ("no nvidia driver", "there is no GPU here; make new tensors with device=x.device instead of .cuda()"),
    ("same dtype", "two tensors of different dtype meet; cast one of them"),
    ("expected scalar type", "two tensors of different dtype meet; cast one of them"),
    ("could not infer output dtype", "these are integers; a mean needs floats, so cast with .float()"),
    ("does not broadcast with previously seen size", "one letter stands for axes of two lengths; print both shapes"),
    ("only applicable to index tensor", "these have to be indices: cast with .long()"),
    ("scalar types: long", "these have to be indices: cast with .long()"),
    ("only supports boolean masks", "a mask is a tensor of bools, such as x > 0"),
    ("operator.invert", "~ is for bools; for numbers write 1 - x or -x"),
    (
        "index tensor must have the same number of dim",
        "gather and scatter need an index with as many axes as the tensor",
    ),
    ("tensors used as indices must be", "an index has to be of dtype int64 or bool; cast with .long()"),
    ("shape of the mask", "a mask has to have the shape of the tensor that it selects from"),
    (
        "not implemented for '",
        "this function has no version for that dtype; cast the tensor first, often with .float()",
    ),
    ("view_as_complex is only supported", "complex numbers exist for float32 and float64; cast with .float()"),
    (
        "expected both inputs to be half, float or double",
        "complex numbers exist for float32 and float64; cast with .float()",
    ),
    ("input type into a floating point type", "a floating-point tensor is expected; cast with .float()"),
    ("only tensors of floating point", "gradients exist for floating-point tensors only"),
    (
        "leaf variable that requires grad",
        "a parameter cannot be changed in place; work on a copy, or use torch.no_grad()",
    ),
    ("requires grad", "call .detach() before the conversion; the values then have no gradient"),
    ("boolean value of tensor with more than one", "`if`, `and`, `or` take one bool: use .any() or .all(), or & and |"),
    ("only one element tensors can be converted", "float() and .item() take a single value; reduce the tensor first"),
    ("elements cannot be converted to scalar", "float() and .item() take a single value; reduce the tensor first"),
    ("selected index k out of range", "topk asks for more values than the axis has; along which axis is it?"),
    ("dimension out of range", "the tensor has fewer axes than that; print its shape"),
    ("dimension specified as", "the tensor has no axes at all: it is a single number"),
    ("too many indices", "there are more indices than axes; print the shape"),
    ("out of bounds for dimension", "an index is larger than the axis that it points into"),
    ("out of range", "an index is larger than the axis that it points into"),
    ("not enough values to unpack", "there are fewer values on the right than names on the left"),
    (
        "too many values to unpack",
        "there are more values on the right than names on the left; topk and sort return two",
    ),
    ("cannot unpack", "the right side is one object and not several; does that function return what you think?"),
    ("'nonetype' object", "a value is None; a function without `return`, or a method that works in place, gives None"),
    (
        "object is not callable",
        "round brackets call a function; to index, use square ones. Is a function's name reused?",
    ),
    ("'method' object", "a method is used without its brackets; write x.shape, but x.sum()"),
    ("'builtin_function_or_method' object", "a method is used without its brackets; write x.shape, but x.sum()"),
    ("object is not subscriptable", "square brackets need a tensor, list or dict; this is something else"),
    ("object is not iterable", "a loop needs a list, tensor or range; did you mean range(...)?"),
    ("torch.return_types", "topk, sort and max along an axis return two tensors, values and indices; take one of them"),
    ("has no attribute", "that type has no such method; print the type, it may be a list, a tuple or a number"),
    ("unsupported operand type", "these two types cannot be combined; print both, one may be a list, a tuple or None"),
    ("can only concatenate", "these two types cannot be joined by +; print both types"),
    ("can be converted to an index", "an index of a list is one whole number; use .item() or .tolist()"),
    ("has no len()", "that is a single object, without a length; print its type"),
    ("invalid index of a 0-dim tensor", "the tensor is a single number and has no axes; use .item()"),
    ("list indices must be integers", "a list takes one integer at a time; make a tensor of it first"),
    ("cannot be interpreted as an integer", "a whole number is needed here: use //, int() or .item()"),
    ("referenced before assignment", "the variable is read on a path on which nothing has been stored in it"),
    ("cannot access local variable", "the variable is read on a path on which nothing has been stored in it"),
    ("is not defined", "that name does not exist where the line runs; is it an argument, or misspelt?"),
    ("positional argument", "it is called with the arguments named above; keep the signature of the stub"),
    ("unexpected keyword", "it is called with the arguments named above; keep the signature of the stub"),
    ("assignment destination is read-only", "that array cannot be changed; work on a copy"),
    ("division by zero", "the divisor is 0 here; is this one of the edge cases?"),
    ("float nan to integer", "the number is nan, not a number: look for 0/0 or the logarithm of a negative one"),
    ("maximum recursion depth", "the function calls itself without end; is a library function of the same name meant?"),
)

EINOPS: tuple[tuple[str, str], ...] = (
    ("can't divide axis", "the axis cannot be split evenly into the parts that stand in brackets"),
    ("shape mismatch", "an axis has another length than the pattern and the keywords say; print the shape"),
    ("expected", "the pattern does not fit this tensor: it names another number of axes; print the shape"),
    ("identifiers only on one side", "an axis stands on one side only: rearrange keeps all, reduce drops, repeat adds"),
    ("could not infer sizes", "the lengths of the axes in brackets are not known; give all but one as keywords"),
    ("specify sizes for new axes", "repeat needs the length of each new axis as a keyword"),
    ("duplicate dimension", "one name stands for two axes on one side; give each axis a name of its own"),
    ("appears several times", "one name stands for two axes on one side; give each axis a name of its own"),
    ("unknown reduction", "the reductions are min, max, sum, mean, prod, any and all"),
    ("unknown axis", "an axis of the result occurs in none of the inputs; is it misspelt?"),
)


def meaning_of(error: BaseException) -> str | None:
    """What an exception usually means, or None if that is not known."""
    text = str(error).lower()
    if isinstance(error, einops.EinopsError):
        general = "the pattern does not fit this tensor: count its axes, and multiply what stands in brackets"
        return next((meaning for sign, meaning in EINOPS if sign in text), general)
    if isinstance(error, KeyError):
        return "that key is not in the dict; print its keys"
    if isinstance(error, SyntaxError):
        return "Python cannot read that line; look for a missing bracket or colon there or above"
    return next((meaning for sign, meaning in MEANINGS if sign in text), None)
