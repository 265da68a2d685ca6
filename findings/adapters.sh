#!/usr/bin/env bash
# Two adapters that PEFT reloads or merges as another model than the one that was trained.
#
# Packages: peft 0.21.2, transformers 5.23.0, torch 2.13.0 (CPU).
# Behaviour:
#   1. init_lora_weights="pissa_niter_N" takes a low-rank part out of the base weights by a randomised
#      SVD. What was taken out is not saved. PeftModel.from_pretrained draws the projection anew, so
#      the same files give another model at each load. Nothing warns of it.
#   2. merge_and_unload of a LoRA on lm_head of a model with tied embeddings writes into the matrix that
#      both ends hold, so the embedding changes too. A warning when the adapter is attached is all.
# Seen (loss on the training text, nats per token):
#   pissa_niter_4: trained 0.64, reloaded 3.39, reloaded again 3.21
#   tied lm_head:  trained 0.00, reloaded 0.00, merged 19.88
# Why it matters: an adapter that memorised its text word for word is measured as one that forgot it.
#
# Exit status: 0 while both behaviours are as described, 1 when one has changed.
set -euo pipefail

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 transformers==5.23.0 peft==0.21.2

cat >"$work/show.py" <<'PYTHON'
import sys
import warnings

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig

warnings.simplefilter("ignore")
work = sys.argv[1]
torch.manual_seed(0)
config = LlamaConfig(
    vocab_size=200, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
    tie_word_embeddings=True,
)
model = AutoModelForCausalLM.from_config(config)
with torch.no_grad():
    for weight in (each for each in model.parameters() if each.ndim == 2):
        weight.normal_(0, 0.2)
model.save_pretrained(f"{work}/base")
text = torch.randint(200, (4, 16))


def loss(model):
    with torch.no_grad():
        return model.eval()(input_ids=text, labels=text).loss.item()


def base():
    return AutoModelForCausalLM.from_pretrained(f"{work}/base")


def trained(name, **settings):
    torch.manual_seed(1)
    adapted = get_peft_model(base(), LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", **settings))
    optimiser = torch.optim.AdamW((each for each in adapted.parameters() if each.requires_grad), lr=2e-2)
    for _ in range(300):
        adapted(input_ids=text, labels=text).loss.backward()
        optimiser.step()
        optimiser.zero_grad()
    adapted.eval().save_pretrained(f"{work}/{name}")
    return loss(adapted)


def reloaded(name, seed):
    torch.manual_seed(seed)
    return PeftModel.from_pretrained(base(), f"{work}/{name}")


there = trained("pissa", init_lora_weights="pissa_niter_4", target_modules=["q_proj", "v_proj", "up_proj"])
first, second = (loss(reloaded("pissa", seed)) for seed in (2, 3))
print(f"pissa_niter_4: trained {there:.2f}, reloaded {first:.2f}, reloaded again {second:.2f}")
drawn_anew = min(first, second) > there + 0.05 and abs(first - second) > 1e-3

there = trained("tied", target_modules=["q_proj", "lm_head"])
again = reloaded("tied", 2)
beside = loss(again)
merged = loss(again.merge_and_unload())
print(f"tied lm_head:  trained {there:.2f}, reloaded {beside:.2f}, merged {merged:.2f}")
merges_both = beside < there + 0.01 and merged > there + 1
sys.exit(0 if drawn_anew and merges_both else 1)
PYTHON
"$work/venv/bin/python" "$work/show.py" "$work" 2>/dev/null
