"""Which operators of a program compute, and nothing else? What is not on this list needs --trust-code.

ATen names without overload; `_` at the end of a name (in place) is left out. No operator here opens files, loads libraries, starts threads
or processes, changes settings of torch, or hands out memory that it did not check.
"""

_SHAPES = """
    alias adjoint as_strided atleast_1d atleast_2d atleast_3d broadcast_tensors broadcast_to cat channel_shuffle chunk clone column_stack
    concat concatenate contiguous constant_pad_nd copy detach diag diag_embed diagonal dim dsplit dstack element_size expand expand_as
    flatten flip fliplr flipud gather hsplit hstack im2col col2im index index_add index_copy index_fill index_put index_select masked_fill
    masked_scatter masked_select meshgrid movedim moveaxis narrow native_channel_shuffle numel numpy_T pad permute pixel_shuffle
    pixel_unshuffle ravel reflection_pad1d reflection_pad2d reflection_pad3d repeat repeat_interleave replication_pad1d replication_pad2d
    replication_pad3d reshape reshape_as roll rot90 row_stack scatter scatter_add scatter_reduce select select_scatter size slice
    slice_scatter split split_with_sizes squeeze stack storage_offset stride swapaxes swapdims sym_numel sym_size sym_storage_offset
    sym_stride t take take_along_dim tensor_split tile transpose tril tril_indices triu triu_indices unbind unflatten unfold unsafe_chunk
    unsafe_split unsafe_split_with_sizes unsqueeze view view_as view_as_complex view_as_real vsplit vstack where mT mH matrix_H
    _reshape_alias _shape_as_tensor _unsafe_view
"""
_MAKING = """
    arange as_tensor bartlett_window bernoulli blackman_window complex empty empty_like eye fill full full_like hamming_window hann_window
    kaiser_window lift_fresh lift_fresh_copy linspace logspace new_empty new_full new_ones new_zeros normal ones ones_like one_hot polar
    rand rand_like randint randint_like randn randn_like randperm scalar_tensor tensor uniform zero zeros zeros_like
"""
_ELEMENTWISE = """
    abs absolute acos acosh add addcdiv addcmul angle arccos arccosh arcsin arcsinh arctan arctan2 arctanh asin asinh atan atan2 atanh
    bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor ceil clamp clamp_max clamp_min clip conj
    copysign cos cosh deg2rad digamma div divide eq erf erfc erfinv exp exp2 expm1 fix float_power floor floor_divide floordiv fmax fmin
    fmod frac ge greater greater_equal gt heaviside hypot i0 imag isclose isfinite isinf isnan isneginf isposinf isreal ldexp le lerp less
    less_equal lgamma log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not logical_or logical_xor logit lt maximum minimum
    mul multiply nan_to_num ne neg negative nextafter not_equal positive pow rad2deg real reciprocal remainder resolve_conj resolve_neg
    round rsqrt rsub sgn sigmoid sign signbit sin sinc sinh sqrt square sub subtract tan tanh true_divide trunc xlogy mathremainder
    special_digamma special_entr special_erf special_erfc special_erfinv special_exp2 special_expit special_expm1 special_gammaln
    special_i0 special_log1p special_log_softmax special_logit special_logsumexp special_ndtr special_ndtri special_round special_sinc
    special_softmax special_xlog1py special_xlogy special_zeta
"""
_REDUCTIONS = """
    all allclose amax amin aminmax any argmax argmin argsort argwhere bincount bucketize count_nonzero cummax cummin cumprod cumsum diff
    dist equal histc kthvalue logcumsumexp logsumexp max mean median min mode msort nanmean nanmedian nansum nonzero norm frobenius_norm
    prod quantile nanquantile renorm searchsorted sort std std_mean sum sum_to_size topk trace unique_consecutive unique_dim var var_mean
    _unique _unique2
"""
_LINEAR = """
    addbmm addmm addmv addr baddbmm bilinear bmm chain_matmul cdist cosine_similarity cross dot einsum inner inverse kron linear matmul
    matrix_exp matrix_power mm mv outer pairwise_distance pinverse tensordot vdot det logdet slogdet linalg_cholesky linalg_cross
    linalg_det linalg_diagonal linalg_eigh linalg_inv linalg_matmul linalg_matrix_exp linalg_matrix_norm linalg_matrix_power
    linalg_multi_dot linalg_norm linalg_pinv linalg_qr linalg_solve linalg_svd linalg_vector_norm _trilinear fft_fft fft_fft2 fft_fftn
    fft_fftfreq fft_fftshift fft_hfft fft_ifft fft_ifft2 fft_ifftn fft_ifftshift fft_ihfft fft_irfft fft_irfft2 fft_irfftn fft_rfft
    fft_rfft2 fft_rfftfreq fft_rfftn stft istft
"""
_LAYERS = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    affine_grid_generator alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm celu conv1d conv2d conv3d conv_transpose1d
    conv_transpose2d conv_transpose3d convolution dropout elu embedding feature_alpha_dropout feature_dropout gelu glu grid_sampler
    grid_sampler_2d grid_sampler_3d group_norm gru gru_cell hardshrink hardsigmoid hardswish hardtanh instance_norm layer_norm leaky_relu
    log_sigmoid log_softmax lstm lstm_cell max_pool1d max_pool1d_with_indices max_pool2d max_pool2d_with_indices max_pool3d
    max_pool3d_with_indices max_unpool2d max_unpool3d mish native_batch_norm native_dropout native_group_norm native_layer_norm prelu relu
    relu6 rms_norm rnn_relu rnn_relu_cell rnn_tanh rnn_tanh_cell rrelu scaled_dot_product_attention selu silu softmax softplus softshrink
    threshold upsample_bicubic2d upsample_bilinear2d upsample_linear1d upsample_nearest1d upsample_nearest2d upsample_nearest3d
    upsample_trilinear3d __interpolate __upsample __upsample_bilinear __upsample_nearest _adaptive_avg_pool2d _adaptive_avg_pool3d
    _batch_norm_impl_index _convolution _convolution_mode _log_softmax _native_batch_norm_legit _native_batch_norm_legit_functional
    _native_batch_norm_legit_no_training _native_multi_head_attention _pad_circular _pad_enum _prelu_kernel
    _scaled_dot_product_flash_attention_for_cpu _softmax _transformer_encoder_layer_fwd _upsample_bicubic2d_aa _upsample_bilinear2d_aa
    _upsample_lanczos2d_aa _upsample_nearest_exact1d _upsample_nearest_exact2d _upsample_nearest_exact3d _weight_norm
    _weight_norm_interface
"""
_LOSSES = """
    binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy_loss hinge_embedding_loss huber_loss kl_div
    l1_loss margin_ranking_loss mse_loss nll_loss nll_loss2d nll_loss_nd poisson_nll_loss smooth_l1_loss soft_margin_loss
"""
_TYPES_AND_DEVICES = """
    Bool Complex Float FloatImplicit Int IntImplicit ScalarImplicit can_cast cpu cuda device get_device is_autocast_cpu_enabled
    is_autocast_enabled is_complex is_contiguous is_floating_point is_grad_enabled is_nonzero is_signed item promote_types requires_grad
    result_type to type_as _cast_Byte _cast_Char _cast_Double _cast_Float _cast_Half _cast_Int _cast_Long _cast_Short _local_scalar_dense
    _to_copy _autocast_to_full_precision _autocast_to_reduced_precision
"""
_LANGUAGE = """
    __and__ __contains__ __derive_index __getitem__ __iand__ __ilshift__ __ior__ __irshift__ __is__ __isnot__ __ixor__ __lshift__ __not__
    __or__ __range_length __round_to_zero_floordiv __rshift__ __xor__ _infer_size _list_to_tensor _set_item _tensor_to_list
    _unwrap_optional append capitalize clear copy count dict divmod endswith extend factorial find format get gcd hash insert is_scripting
    items join keys len list lower lstrip ord percentFormat pop popitem radians degrees range remove replace reverse rstrip setdefault
    sorted startswith str strip title update upper values warn _is_tracing _get_tracing_state has_torch_function
"""
_CHECKS = """
    _assert_async _assert_scalar _assert_tensor_metadata _functional_assert_async _functional_assert_scalar
    _functional_sym_constrain_range _functional_sym_constrain_range_for_size sym_constrain_range sym_constrain_range_for_size
"""
_PRIM = """
    NumToTensor RaiseException TupleIndex TupleUnpack Uninitialized abs data device dtype id is_cpu is_cuda is_nested is_quantized
    is_sparse itemsize layout max min rangelist requires_grad tolist type unchecked_cast unchecked_unwrap_optional
"""
_SYMBOLS = """
    _operator.add _operator.and_ _operator.eq _operator.floordiv _operator.ge _operator.getitem _operator.gt _operator.le _operator.lt
    _operator.mod _operator.mul _operator.ne _operator.neg _operator.not_ _operator.or_ _operator.pos _operator.pow _operator.sub
    _operator.truediv math.ceil math.floor math.sqrt math.trunc torch.sym_float torch.sym_int torch.sym_ite torch.sym_max torch.sym_min
    torch.sym_not torch.sym_sqrt torch.sym_sum
"""
_GROUPS = (_SHAPES, _MAKING, _ELEMENTWISE, _REDUCTIONS, _LINEAR, _LAYERS, _LOSSES, _TYPES_AND_DEVICES, _LANGUAGE, _CHECKS)

ATEN = frozenset(" ".join(_GROUPS).split())
PRIM = frozenset(_PRIM.split())
SYMBOLS = frozenset(_SYMBOLS.split())
"""Arithmetic on sizes in exported programs."""


def computes(name: str) -> bool:
    """Whether an ATen operator, by its name without overload, is on the list."""
    return name in ATEN or (name.endswith("_") and not name.startswith("__") and name[:-1] in ATEN)
