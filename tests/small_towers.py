"""Small versions of timm's towers, registered under names of their own: the classes and settings are timm's."""

from __future__ import annotations

from functools import partial
from typing import Any

from timm.models import register_model
from timm.models.convnext import _create_convnext
from timm.models.eva import _create_eva
from timm.models.fastvit import RepConditionalPosEnc, _create_fastvit
from timm.models.swin_transformer import _create_swin_transformer
from timm.models.vision_transformer import _create_vision_transformer
from timm.models.vitamin import GeGluMlp, VitCfg, VitConvCfg, _create_vitamin

__all__: list[str] = []  # timm adds to it
_VIT: dict[str, Any] = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}


@register_model
def small_convnext(pretrained: bool = False, **kwargs: Any) -> Any:
    """Return a ConvNeXt of four narrow stages."""
    return _create_convnext("convnext_atto", depths=(1, 1, 2, 1), dims=(8, 16, 24, 32), **kwargs)


@register_model
def small_swin(pretrained: bool = False, **kwargs: Any) -> Any:
    """Return a Swin Transformer of two stages at 32 pixels."""
    sizes: dict[str, Any] = {"img_size": 32, "patch_size": 4, "window_size": 4, "embed_dim": 16}
    return _create_swin_transformer(
        "swin_tiny_patch4_window7_224", **sizes, depths=(2, 2), num_heads=(2, 2), out_indices=(0, 1), **kwargs
    )


@register_model
def small_siglip(pretrained: bool = False, **kwargs: Any) -> Any:
    """Return SigLIP's ViT: no class token, attention pooling."""
    return _create_vision_transformer(
        "vit_base_patch16_siglip_224", **(_VIT | {"class_token": False, "global_pool": "map"} | kwargs)
    )


@register_model
def small_dinov2(pretrained: bool = False, **kwargs: Any) -> Any:
    """Return DINOv2's ViT with registers."""
    settings = {"init_values": 0.5, "reg_tokens": 4, "no_embed_class": True}
    return _create_vision_transformer("vit_small_patch14_reg4_dinov2", **(_VIT | settings | kwargs))


@register_model
def small_eva02(pretrained: bool = False, **kwargs: Any) -> Any:
    """Return EVA-02's CLIP tower: rotary positions, gated layers."""
    settings: dict[str, Any] = {
        "qkv_fused": False,
        "mlp_ratio": 8 / 3,
        "swiglu_mlp": True,
        "scale_mlp": True,
        "scale_attn_inner": True,
        "use_rot_pos_emb": True,
        "ref_feat_shape": (16, 16),
        "global_pool": "token",
    }
    return _create_eva("eva02_base_patch16_clip_224", **(_VIT | settings | kwargs))


@register_model
def small_perception_encoder(pretrained: bool = False, **kwargs: Any) -> Any:
    """Return the Perception Encoder's ViT: rotary positions, attention pooling."""
    settings: dict[str, Any] = {
        "global_pool": "map",
        "attn_type": "rope",
        "use_pre_transformer_norm": True,
        "use_rot_pos_emb": True,
        "ref_feat_shape": (4, 4),
        "rope_grid_offset": 1.0,
        "rope_grid_indexing": "xy",
        "attn_pool_num_heads": 2,
        "attn_pool_mlp_ratio": 4.0,
    }
    return _create_eva("vit_pe_core_tiny_patch16_384", **(_VIT | settings | kwargs))


@register_model
def small_dinov3(pretrained: bool = False, **kwargs: Any) -> Any:
    """Return DINOv3's ViT: rotary positions, registers, layer scale."""
    settings: dict[str, Any] = {
        "dynamic_img_size": True,
        "qkv_bias": False,
        "init_values": 0.5,
        "rope_type": "dinov3",
        "rope_temperature": 100,
        "use_rot_pos_emb": True,
        "use_abs_pos_emb": False,
        "num_reg_tokens": 4,
    }
    return _create_eva("vit_small_patch16_dinov3", **(_VIT | settings | kwargs))


@register_model
def small_fastvit(pretrained: bool = False, **kwargs: Any) -> Any:
    """Return MobileCLIP's FastViT of four narrow stages."""
    return _create_fastvit(
        "fastvit_mci0",
        layers=(1, 1, 1, 1),
        embed_dims=(16, 32, 32, 64),
        mlp_ratios=(2, 2, 2, 2),
        se_downsamples=(False, False, True, True),
        pos_embs=(None, None, None, partial(RepConditionalPosEnc, spatial_shape=(7, 7))),
        token_mixers=("repmixer", "repmixer", "repmixer", "attention"),
        lkc_use_act=True,
        **kwargs,
    )


@register_model
def small_vitamin(pretrained: bool = False, **kwargs: Any) -> Any:
    """Return ViTamin's tower: convolutions, then gated blocks."""
    stem = VitCfg(
        embed_dim=(8, 16, 32),
        depths=(1, 1, 1),
        stem_width=8,
        conv_cfg=VitConvCfg(norm_layer="layernorm2d", norm_eps=1e-6),
        head_type="1d",
    )
    blocks: dict[str, Any] = {"embed_dim": 32, "depth": 2, "num_heads": 2, "mlp_layer": GeGluMlp, "mlp_ratio": 2.0}
    rest = {"img_size": 32, "class_token": False, "global_pool": "avg", "embed_cfg": stem}
    return _create_vitamin("vitamin_small_224", **(blocks | rest | kwargs))
