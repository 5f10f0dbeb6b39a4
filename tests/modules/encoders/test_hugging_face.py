# pyright: reportMissingImports=false
"""Text towers and tokenizers of Hugging Face's library, where it is installed (the extra ``transformers``)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip("transformers", reason="needs the extra transformers")

import open_clip

from modules.encoders import load_clip
from tests.families import FAMILIES, OPENAI, write_family

pytestmark = pytest.mark.filterwarnings("ignore")  # of that library's own
TEXTS = ["a photo of a cat .", "two"]


def write_tokenizer(folder: Path) -> None:
    """A tokenizer of ten words, in the library's files."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from tokenizers.processors import TemplateProcessing
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "<pad>", "</s>", "<unk>", "a", "photo", "of", "cat", "two", "."]
    model = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    model.pre_tokenizer = Whitespace()
    model.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)])
    special = {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=model, **special).save_pretrained(folder)


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A hub folder with a small random RoBERTa as text tower."""
    from safetensors.torch import save_file
    from transformers import RobertaConfig

    folder = tmp_path_factory.mktemp("roberta")
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    RobertaConfig(vocab_size=10, intermediate_size=32, max_position_embeddings=20, **sizes).save_pretrained(folder)
    write_tokenizer(folder)
    text = {"hf_model_name": str(folder), "hf_tokenizer_name": "any", "context_length": 12}
    config = FAMILIES["vit"].config | {"text_cfg": text | {"hf_pooler_type": "mean_pooler", "hf_proj_type": "linear"}}
    torch.manual_seed(0)
    built = json.loads(json.dumps(config))
    built["text_cfg"]["hf_model_pretrained"] = False
    model = open_clip.CustomTextCLIP(**built)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": OPENAI}))
    return f"local-dir:{folder}"


def test_a_text_tower_of_hugging_face_gives_open_clips_embeddings(roberta: str) -> None:
    clip, theirs = load_clip(roberta), open_clip.create_model(roberta).eval()
    assert clip.text is not None
    with torch.no_grad():
        ids = open_clip.get_tokenizer(roberta)(TEXTS)
        expected = F.normalize(theirs.encode_text(ids), dim=-1)  # pyright: ignore[reportCallIssue]
    z, states = clip.text.read(TEXTS)
    assert torch.allclose(z, expected, atol=1e-5) and states.shape == (2, 12, 16)
    assert (states.norm(dim=-1) > 0).sum(dim=1).tolist() == [8, 3]  # start, words, end
    assert all(value.requires_grad for value in clip.image.visual.parameters())


def test_siglips_tokenizer_lies_in_the_models_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FAMILIES["siglip"].config["text_cfg"] | {"hf_tokenizer_name": "timm/any", "vocab_size": 10}
    monkeypatch.setitem(FAMILIES["siglip"].config, "text_cfg", text)
    name = write_family("siglip", tmp_path / "siglip")
    write_tokenizer(tmp_path / "siglip")
    clip = load_clip(name)
    assert clip.text is not None and clip.text.encode_text(TEXTS).shape == (2, 32)


def test_a_tokenizer_that_must_be_fetched_is_one_line_offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = FAMILIES["siglip"].config["text_cfg"] | {"hf_tokenizer_name": "timm/ViT-B-16-SigLIP"}
    monkeypatch.setitem(FAMILIES["siglip"].config, "text_cfg", text)
    clip = load_clip(write_family("siglip", tmp_path / "siglip"))
    assert clip.text is not None
    with pytest.raises(ValueError, match="cannot load the tokenizer of 'local-dir:.*siglip'") as error:
        clip.text.tokenize(TEXTS)
    assert "\n" not in str(error.value)
