import { describe, expect, it } from "vitest";

import openapi from "../../docs/openapi.json";
import { destinations, invitation, live, platforms, recordings, tiers } from "../dev/fixtures";

interface Schema {
  $ref?: string;
  allOf?: Schema[];
  oneOf?: Schema[];
  type?: string | string[];
  enum?: unknown[];
  items?: Schema;
  properties?: Record<string, Schema>;
}

const schemas = openapi.components.schemas as unknown as Record<string, Schema>;

/** The schemas that may describe a value, references followed. */
function readings({ $ref, allOf, oneOf, ...schema }: Schema): Schema[] {
  if ($ref !== undefined) return readings(named($ref.split("/").pop() ?? ""));
  if (oneOf !== undefined) return oneOf.flatMap(readings);
  if (allOf === undefined) return [schema];
  const parts = allOf.flatMap(readings);
  return [{ type: "object", properties: Object.assign({}, ...parts.map((part) => part.properties ?? {})) as Record<string, Schema> }];
}

function named(name: string): Schema {
  const schema = schemas[name];
  if (schema === undefined) throw new Error(`the API has no ${name}`);
  return schema;
}

function typeOf(value: unknown): string {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

/** What of a value the API does not know, or knows otherwise. */
function unknownToApi(schema: Schema, value: unknown, at: string): string[] {
  const type = typeOf(value);
  const fits = readings(schema).find((each) => {
    const types = [each.type ?? []].flat();
    return types.includes(type) || (types.includes("integer") && Number.isInteger(value));
  });
  if (fits === undefined) return [`${at} is ${type}`];
  if (fits.enum !== undefined && !fits.enum.includes(value)) return [`${at} is ${String(value)}`];
  const { items, properties } = fits;
  if (Array.isArray(value)) return items === undefined ? [] : value.flatMap((each, i) => unknownToApi(items, each, `${at}/${i}`));
  if (typeof value !== "object" || value === null || properties === undefined) return [];
  return Object.entries(value).flatMap(([key, each]) => {
    const property = properties[key];
    return property === undefined ? [`${at}/${key}`] : unknownToApi(property, each, `${at}/${key}`);
  });
}

describe("the studio's types of the API", () => {
  // The fixtures have these types, and every field of them: what the API has taken away or renamed would stand in them still.
  it("name nothing that the API does not", () => {
    const all = { StreamSnapshot: [live], Destination: destinations, Platform: platforms, Tier: tiers, Recording: recordings, RoomToken: [invitation] };
    const unknown = Object.entries(all).flatMap(([name, values]) =>
      values.flatMap((value, i) => unknownToApi(named(name), value, `${name}/${i}`)),
    );
    expect(unknown).toEqual([]);
  });
});
