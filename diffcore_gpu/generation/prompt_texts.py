"""The wording of the built-in prompt sets: scenes of weather, place and light, and what must not appear."""

from __future__ import annotations

TEXTS: dict[str, tuple[tuple[str, ...], str]] = {
    "bird": (
        (
            "a photo of {a} {label}, a bird, perched on a bare branch in thick morning fog",
            "a photo of {a} {label}, a bird, on a rock by the sea under heavy clouds",
            "a photo of {a} {label}, a bird, in a snowy garden in pale winter light",
            "a photo of {a} {label}, a bird, in the reeds of a still lake at sunset",
            "a photo of {a} {label}, a bird, in flight against a clear blue sky",
            "a photo of {a} {label}, a bird, on wet grass in light rain",
            "a photo of {a} {label}, a bird, in the shade of a green summer forest",
            "a photo of {a} {label}, a bird, on a fence post in a wide field at noon",
        ),
        "two birds, flock, people, cage, hands, drawing, painting, statue, text, watermark, frame, blurred, deformed, "
        "extra wings, extra beak, missing head, cropped",
    ),
    "car": (
        (
            "a photo of {a} {label}, a car, parked on a wet city street at night",
            "a photo of {a} {label}, a car, on a mountain road covered with snow",
            "a photo of {a} {label}, a car, on a gravel road in a desert at noon",
            "a photo of {a} {label}, a car, by the sea in warm evening light",
            "a photo of {a} {label}, a car, in an underground garage under neon lamps",
            "a photo of {a} {label}, a car, on a country lane in autumn fog",
            "a photo of {a} {label}, a car, in front of a glass building on a cloudy day",
            "a photo of {a} {label}, a car, on a highway in heavy rain",
        ),
        "people, several cars, toy, drawing, cartoon, text, watermark, cut in half, crash, dents, missing wheels, "
        "extra wheels, interior, blurred, deformed",
    ),
    "flower": (
        (
            "a close photo of {a} {label}, a flower, with drops of rain on its petals",
            "a close photo of {a} {label}, a flower, on a mountain meadow in bright sun",
            "a close photo of {a} {label}, a flower, in a garden bed in soft morning mist",
            "a close photo of {a} {label}, a flower, in a forest clearing with rays of light",
            "a close photo of {a} {label}, a flower, beside an old stone wall in the shade",
            "a close photo of {a} {label}, a flower, in a field in golden evening light",
            "a close photo of {a} {label}, a flower, in a greenhouse on an overcast day",
        ),
        "vase, bouquet, people, hands, insects, plastic, drawing, painting, pattern, text, watermark, withered, "
        "black and white, blurred, deformed",
    ),
    "aircraft": (
        (
            "a photo of {a} {label}, an aircraft, above a layer of white clouds",
            "a photo of {a} {label}, an aircraft, on a runway wet from rain",
            "a photo of {a} {label}, an aircraft, taking off at sunrise",
            "a photo of {a} {label}, an aircraft, parked on the apron of an airport in snow",
            "a photo of {a} {label}, an aircraft, in flight over a desert in hard light",
            "a photo of {a} {label}, an aircraft, landing in thin fog with its lights on",
            "a photo of {a} {label}, an aircraft, high above the sea on a clear day",
        ),
        "cockpit, cabin, crowd, several aircraft, model, toy, drawing, text, watermark, wreck, smoke, missing wing, "
        "extra wing, extra engines, blurred, deformed",
    ),
    "dog": (
        (
            "a photo of {a} {label}, a dog, running through fresh snow",
            "a photo of {a} {label}, a dog, on a beach in evening light",
            "a photo of {a} {label}, a dog, in a forest full of autumn leaves",
            "a photo of {a} {label}, a dog, on a lawn in bright sun",
            "a photo of {a} {label}, a dog, on a wooden floor by a window",
            "a photo of {a} {label}, a dog, on a city street after rain",
            "a photo of {a} {label}, a dog, in a mountain meadow under grey clouds",
        ),
        "people, hands, several dogs, puppies, costume, toy, drawing, cartoon, statue, text, watermark, extra legs, "
        "missing legs, cropped head, blurred, deformed",
    ),
    "food": (
        (
            "a photo of {a} {label}, a dish, on a white plate by a bright window",
            "a photo of {a} {label}, a dish, on a dark wooden table in candlelight",
            "a photo of {a} {label}, a dish, at a street stall at night",
            "a photo of {a} {label}, a dish, on a garden table in the midday sun",
            "a photo of {a} {label}, a dish, in a rustic kitchen on a rainy day",
            "a photo of {a} {label}, a dish, seen from above on a grey stone surface",
            "a photo of {a} {label}, a dish, in a busy restaurant under warm lamps",
        ),
        "people, hands, raw ingredients, menu, packaging, drawing, plastic, text, watermark, empty plate, mould, "
        "blurred, overexposed",
    ),
    "object": (
        (
            "a photo of {a} {label} outdoors on a bright sunny day",
            "a photo of {a} {label} in fog at dawn",
            "a photo of {a} {label} in falling rain",
            "a photo of {a} {label} surrounded by snow",
            "a photo of {a} {label} in warm evening light",
            "a photo of {a} {label} in a room lit by a window",
            "a photo of {a} {label} in front of a plain grey wall",
            "a photo of {a} {label} at night under street lamps",
        ),
        "text, watermark, frame, collage, drawing, cartoon, toy, several objects, cropped, blurred, deformed, "
        "low resolution",
    ),
    "digit": (
        (
            "{a} {label}, a handwritten digit, thin strokes",
            "{a} {label}, a handwritten digit, bold strokes",
            "{a} {label}, a handwritten digit, leaning to the left",
            "{a} {label}, a handwritten digit, leaning to the right",
            "{a} {label}, a handwritten digit, upright",
        ),
        "blurred, noisy, empty, cut off",
    ),
}
"""By type of dataset: the contextual prompts, and the negative prompt."""
